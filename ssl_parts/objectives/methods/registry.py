"""Every method by the name that `objective.method` takes; its description is in `MethodName`."""

from ssl_parts.objectives.config import MethodName, ObjectiveConfig
from ssl_parts.objectives.method import AnyMethod
from ssl_parts.objectives.methods.byol import BYOL
from ssl_parts.objectives.methods.detcon import DetCon
from ssl_parts.objectives.methods.dino import DINO
from ssl_parts.objectives.methods.distill import Distill
from ssl_parts.objectives.methods.moco import MoCo
from ssl_parts.objectives.methods.particle import Particle
from ssl_parts.objectives.methods.simclr import SimCLR

METHODS: dict[MethodName, type[AnyMethod]] = {
    MethodName.particle: Particle,
    MethodName.simclr: SimCLR,
    MethodName.moco: MoCo,
    MethodName.byol: BYOL,
    MethodName.dino: DINO,
    MethodName.detcon: DetCon,
    MethodName.distill: Distill,
}


def build_method(config: ObjectiveConfig) -> AnyMethod:
    """Build the method that `objective.method` names."""
    return METHODS[config.method](config)
