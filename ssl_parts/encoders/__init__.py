"""Encoders: timm networks behind one dense interface, weights in from files, a name for exact
weights.
"""

from ssl_parts.encoders.build import EncoderConfig, build_encoder, open_encoder
from ssl_parts.encoders.encoder import Encoder, Features
from ssl_parts.encoders.modes import evaluating
from ssl_parts.encoders.provenance import encoder_hash
from ssl_parts.encoders.sources import locate
from ssl_parts.encoders.weights import LoadReport, load_weights

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
    "open_encoder",
]
