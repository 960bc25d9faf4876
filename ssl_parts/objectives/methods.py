"""Every objective by the name that `objective.method` takes."""

from ssl_parts.objectives.byol import BYOL
from ssl_parts.objectives.detcon import DetCon
from ssl_parts.objectives.dino import DINO
from ssl_parts.objectives.method import Method
from ssl_parts.objectives.moco import MoCo
from ssl_parts.objectives.particle import Particle
from ssl_parts.objectives.simclr import SimCLR

METHODS: dict[str, type[Method]] = {
    "particle": Particle,
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "dino": DINO,
    "detcon": DetCon,
}
