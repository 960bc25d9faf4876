"""Part discovery: which pixels of an image belong together, and which are the object at all."""

from .clustering.kmeans import Clusters as Clusters
from .clustering.kmeans import kmeans as kmeans
from .config import BoxConfig as BoxConfig
from .config import ComponentConfig as ComponentConfig
from .config import CosegmentConfig as CosegmentConfig
from .config import CrfConfig as CrfConfig
from .config import DatasetConfig as DatasetConfig
from .config import FelzenszwalbConfig as FelzenszwalbConfig
from .config import ForegroundConfig as ForegroundConfig
from .config import MaskConfig as MaskConfig
from .config import MiningConfig as MiningConfig
from .config import NoForegroundConfig as NoForegroundConfig
from .config import PartsConfig as PartsConfig
from .config import PerImageConfig as PerImageConfig
from .config import SaliencyConfig as SaliencyConfig
from .config import SlicConfig as SlicConfig
from .config import VotesConfig as VotesConfig
from .dense.hypercolumn import hypercolumn as hypercolumn
from .discover import discover_parts as discover_parts
from .match import contingency as contingency
from .match import match_ids as match_ids
from .model import PartModel as PartModel
from .model import load_part_model as load_part_model
from .stats import PartStats as PartStats
from .stats import part_stats as part_stats
from .stats import store_nmi as store_nmi
from .store import PartStore as PartStore
from .store import StoreInfo as StoreInfo

__all__ = [
    "BoxConfig",
    "Clusters",
    "ComponentConfig",
    "CosegmentConfig",
    "CrfConfig",
    "DatasetConfig",
    "FelzenszwalbConfig",
    "ForegroundConfig",
    "MaskConfig",
    "MiningConfig",
    "NoForegroundConfig",
    "PartModel",
    "PartStats",
    "PartStore",
    "PartsConfig",
    "PerImageConfig",
    "SaliencyConfig",
    "SlicConfig",
    "StoreInfo",
    "VotesConfig",
    "contingency",
    "discover_parts",
    "hypercolumn",
    "kmeans",
    "load_part_model",
    "match_ids",
    "part_stats",
    "store_nmi",
]
