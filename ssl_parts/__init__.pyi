"""Self-supervised, part-aware pretraining."""

from .encoders import build_encoder as build_encoder
from .encoders import open_encoder as open_encoder
from .export import export_encoder as export_encoder
from .parts import load_part_model as load_part_model

__version__: str
__all__ = ["build_encoder", "export_encoder", "load_part_model", "open_encoder"]
