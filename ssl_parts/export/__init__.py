"""Encoders out: folders and files that other projects open without this one."""

from ssl_parts.export.export import FORMATS, export_encoder
from ssl_parts.export.hub import push_export
from ssl_parts.jobs.export import ExportConfig, parse, run_export

__all__ = ["FORMATS", "ExportConfig", "export_encoder", "parse", "push_export", "run_export"]
