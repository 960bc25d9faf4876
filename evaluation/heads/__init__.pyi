from .build import HEADS as HEADS
from .build import build_head as build_head
from .coarse2fine import Coarse2Fine as Coarse2Fine
from .config import HEAD_CONFIGS as HEAD_CONFIGS
from .config import HeadConfig as HeadConfig
from .config import head_config as head_config
from .head import Head as Head
from .head import Localization as Localization
from .linear import Linear as Linear
from .scrim import SCRIM as SCRIM
from .tdsa import TDSA as TDSA
from .upm import UPM as UPM

__all__ = [
    "HEADS",
    "HEAD_CONFIGS",
    "SCRIM",
    "TDSA",
    "UPM",
    "Coarse2Fine",
    "Head",
    "HeadConfig",
    "Linear",
    "Localization",
    "build_head",
    "head_config",
]
