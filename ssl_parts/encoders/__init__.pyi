"""Encoders: timm networks behind one dense interface, weights in from files, a name for exact
weights.
"""

from .build import build_encoder as build_encoder
from .completion import complete_config as complete_config
from .completion import make_encoder as make_encoder
from .config import BareFile as BareFile
from .config import EncoderConfig as EncoderConfig
from .digests import save_sealed as save_sealed
from .encoder import Encoder as Encoder
from .encoder import Features as Features
from .inputs import suspect_input as suspect_input
from .modes import evaluating as evaluating
from .opening import open_encoder as open_encoder
from .provenance import encoder_hash as encoder_hash
from .read import read_tensors as read_tensors
from .report import LoadReport as LoadReport
from .sources import locate as locate
from .weights import load_weights as load_weights

__all__ = [
    "BareFile",
    "Encoder",
    "EncoderConfig",
    "Features",
    "LoadReport",
    "build_encoder",
    "complete_config",
    "encoder_hash",
    "evaluating",
    "load_weights",
    "locate",
    "make_encoder",
    "open_encoder",
    "read_tensors",
    "save_sealed",
    "suspect_input",
]
