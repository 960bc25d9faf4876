"""Self-supervised, part-aware pretraining."""

from .api import discover as discover
from .api import embed as embed
from .api import evaluate as evaluate
from .api import pretrain as pretrain
from .encoders import build_encoder as build_encoder
from .encoders import open_encoder as open_encoder
from .export import export_encoder as export_encoder
from .parts import load_part_model as load_part_model

__version__: str
__all__ = [
    "build_encoder",
    "discover",
    "embed",
    "evaluate",
    "export_encoder",
    "load_part_model",
    "open_encoder",
    "pretrain",
]
