from .config import MethodName as MethodName
from .config import ObjectiveConfig as ObjectiveConfig
from .config import Targets as Targets
from .method import InstanceMethod as InstanceMethod
from .method import LossInputs as LossInputs
from .method import Method as Method
from .methods.registry import METHODS as METHODS
from .methods.registry import build_method as build_method
from .network import InstanceNetwork as InstanceNetwork
from .network import Network as Network
from .network import Outputs as Outputs
from .network import PartNetwork as PartNetwork
from .objective import Objective as Objective
from .part_contrast import PartContrast as PartContrast
from .part_contrast import count_shared_parts as count_shared_parts
from .pooling import Parts as Parts
from .pooling import pool_parts as pool_parts

__all__ = [
    "METHODS",
    "InstanceMethod",
    "InstanceNetwork",
    "LossInputs",
    "Method",
    "MethodName",
    "Network",
    "Objective",
    "ObjectiveConfig",
    "Outputs",
    "PartContrast",
    "PartNetwork",
    "Parts",
    "Targets",
    "build_method",
    "count_shared_parts",
    "pool_parts",
]
