"""Part discovery: which pixels of an image belong together, and which are the object at all."""

from ssl_parts.parts.clustering.kmeans import Clusters, kmeans
from ssl_parts.parts.config import (
    DatasetClusteringConfig,
    ForegroundConfig,
    PartsConfig,
    SuperpixelConfig,
)
from ssl_parts.parts.dense.hypercolumn import hypercolumn
from ssl_parts.parts.discover import discover_parts
from ssl_parts.parts.match import contingency, match_ids, match_store
from ssl_parts.parts.stats import PartStats, part_stats, store_nmi
from ssl_parts.parts.store import PartStore, StoreInfo

__all__ = [
    "Clusters",
    "DatasetClusteringConfig",
    "ForegroundConfig",
    "PartStats",
    "PartStore",
    "PartsConfig",
    "StoreInfo",
    "SuperpixelConfig",
    "contingency",
    "discover_parts",
    "hypercolumn",
    "kmeans",
    "match_ids",
    "match_store",
    "part_stats",
    "store_nmi",
]
