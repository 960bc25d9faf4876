"""Encoders: timm networks behind one dense interface, weights in from files, a name for exact
weights.
"""

from ssl_parts.encoders.build import build_encoder
from ssl_parts.encoders.config import BareFile, EncoderConfig, complete_config
from ssl_parts.encoders.digests import seal
from ssl_parts.encoders.encoder import Encoder, Features
from ssl_parts.encoders.inputs import suspect_input
from ssl_parts.encoders.opening import open_encoder
from ssl_parts.encoders.provenance import encoder_hash
from ssl_parts.encoders.read import read_tensors
from ssl_parts.encoders.sources import locate
from ssl_parts.encoders.weights import LoadReport, load_weights

__all__ = [
    "BareFile",
    "Encoder",
    "EncoderConfig",
    "Features",
    "LoadReport",
    "build_encoder",
    "complete_config",
    "encoder_hash",
    "load_weights",
    "locate",
    "open_encoder",
    "read_tensors",
    "seal",
    "suspect_input",
]
