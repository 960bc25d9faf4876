"""Encoders out: folders and files that other projects open without this one."""

from .export import FORMATS as FORMATS
from .export import export_encoder as export_encoder
from .formats import FORMAT_NAMES as FORMAT_NAMES
from .hub import push_export as push_export

__all__ = ["FORMATS", "FORMAT_NAMES", "export_encoder", "push_export"]
