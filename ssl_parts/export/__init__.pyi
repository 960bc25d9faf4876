"""Encoders out: folders and files that other projects open without this one."""

from .config import ExportConfig as ExportConfig
from .config import parse as parse
from .export import FORMATS as FORMATS
from .export import export_encoder as export_encoder
from .formats import FORMAT_NAMES as FORMAT_NAMES
from .hub import push_export as push_export
from .several import run_export as run_export

__all__ = [
    "FORMATS",
    "FORMAT_NAMES",
    "ExportConfig",
    "export_encoder",
    "parse",
    "push_export",
    "run_export",
]
