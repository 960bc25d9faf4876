"""What PARTICLE is compared with, one line per arm. Each starts from the same base and takes as
many steps as all rounds.

`run.arms=[instance,detcon]` trains them beside the result of a run, `launch/compare.py --arms
instance detcon` does it over seeds.
"""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ssl_parts.objectives import ObjectiveConfig
from ssl_parts.parts import ForegroundConfig, PartsConfig

BASE, OURS = "base", "base + PARTICLE"
MASKS = 16  # Felzenszwalb regions per image, at most; as many as DetCon samples


class Masks(Enum):
    """Part ids that an arm's images come with."""

    none = "none"
    discovered = "discovered"  # those of PARTICLE's first round, from the base
    felzenszwalb = "felzenszwalb"  # by colour alone


@dataclass(frozen=True)
class Arm:
    """A row of the table.

    title: its name there. folder: its folder in the run. objective: keys of the objective that
    differ from the run's. masks: part ids of its images.
    """

    title: str
    folder: str
    objective: dict[str, Any] = field(default_factory=dict)
    masks: Masks = Masks.none

    def objective_of(self, config: ObjectiveConfig) -> ObjectiveConfig:
        """The run's objective with what differs in this arm."""
        return replace(config, **self.objective)


INSTANCE = {
    "method": "particle", "part_weight": 0.0, "instance_weight": 1.0, "equivariance_weight": 0.0, "dino_weight": 0.0,
}  # fmt: skip

ARMS: dict[str, Arm] = {
    "instance": Arm("base + instance contrast", "control", INSTANCE),
    # with PARTICLE's exchange of backgrounds, which needs discovered parts: the same views, but no
    # part contrast
    "instance_views": Arm(
        "base + instance contrast, PARTICLE's views",
        "control_instance_views",
        INSTANCE,
        Masks.discovered,
    ),
    "simclr": Arm("base + SimCLR", "control_simclr", {"method": "simclr"}),
    "moco": Arm("base + MoCo", "control_moco", {"method": "moco"}),
    "byol": Arm("base + BYOL", "control_byol", {"method": "byol"}),
    "dino": Arm("base + DINO", "control_dino", {"method": "dino"}),
    "detcon": Arm(
        "base + DetCon, Felzenszwalb masks",
        "control_detcon",
        {"method": "detcon"},
        Masks.felzenszwalb,
    ),
    # parts discovered once, and trained on for as long as all rounds together
    "one_round": Arm(
        "base + PARTICLE, one round as long", "control_one_round", masks=Masks.discovered
    ),
}


def result_title(config: ObjectiveConfig) -> str:
    """The row of a run's result."""
    return OURS if config.method == "particle" else f"base + {config.method}"


def felzenszwalb_parts(parts: PartsConfig) -> PartsConfig:
    """Masks of the whole photograph, background too, on the grid of the run's own parts."""
    foreground = ForegroundConfig(method="none")
    return PartsConfig(
        "felzenszwalb",
        size=parts.size,
        k=MASKS,
        superpixels=parts.superpixels,
        foreground=foreground,
        batch=parts.batch,
    )
