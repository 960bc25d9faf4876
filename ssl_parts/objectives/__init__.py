"""What is learnt from two views: part contrast, instance contrast and the terms around them."""

from ssl_parts.objectives.config import ObjectiveConfig, Targets
from ssl_parts.objectives.network import Outputs, PartNetwork
from ssl_parts.objectives.objective import Objective
from ssl_parts.objectives.part_contrast import PartContrast, shared_parts
from ssl_parts.objectives.pooling import Parts, pool_parts
from ssl_parts.objectives.registry import METHODS

__all__ = [
    "METHODS",
    "Objective",
    "ObjectiveConfig",
    "Outputs",
    "PartContrast",
    "PartNetwork",
    "Parts",
    "Targets",
    "pool_parts",
    "shared_parts",
]
