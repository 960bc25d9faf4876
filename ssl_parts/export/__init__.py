"""Encoders out: folders and files that other projects open without this one."""

from ssl_parts.export.export import FORMATS, export_encoder

__all__ = ["FORMATS", "export_encoder"]
