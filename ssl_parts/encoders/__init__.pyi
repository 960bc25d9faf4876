"""Encoders: timm networks behind one dense interface, weights in from files, a name for exact
weights.
"""

from .build import build_encoder as build_encoder
from .build import make_encoder as make_encoder
from .build import open_encoder as open_encoder
from .config import EncoderConfig as EncoderConfig
from .encoder import Encoder as Encoder
from .encoder import Features as Features
from .modes import evaluating as evaluating
from .provenance import encoder_hash as encoder_hash
from .sources import locate as locate
from .weights import LoadReport as LoadReport
from .weights import load_weights as load_weights

__all__ = [
    "Encoder",
    "EncoderConfig",
    "Features",
    "LoadReport",
    "build_encoder",
    "encoder_hash",
    "evaluating",
    "load_weights",
    "locate",
    "make_encoder",
    "open_encoder",
]
