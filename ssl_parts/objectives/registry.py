"""Every objective by the name that `objective.method` takes."""

from ssl_parts.objectives.method import Method
from ssl_parts.objectives.methods.byol import BYOL
from ssl_parts.objectives.methods.detcon import DetCon
from ssl_parts.objectives.methods.dino import DINO
from ssl_parts.objectives.methods.moco import MoCo
from ssl_parts.objectives.methods.particle import Particle
from ssl_parts.objectives.methods.simclr import SimCLR

METHODS: dict[str, type[Method]] = {
    "particle": Particle,
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "dino": DINO,
    "detcon": DetCon,
}
