"""What PARTICLE is compared with, one line per arm. Each starts from the same base and takes as
many steps as all rounds.

`run.arms=[instance,detcon]` trains them beside the result of a run, `launch/compare.py --arms
instance detcon` does it over seeds.
"""

from dataclasses import dataclass, replace
from enum import Enum

from ssl_parts.objectives.config import MethodName, ObjectiveConfig
from ssl_parts.parts.config import FelzenszwalbConfig, PartsConfig

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

    title: its name there. folder: where it lives in the run. method: which objective trains it,
    None for the run's own. only_instances: whether particle is left its instance term alone.
    masks: its part ids. instead: passes of distill's teacher in place of object and parts, None for
    the run's own.
    """

    title: str
    folder: str
    method: MethodName | None = None
    only_instances: bool = False
    masks: Masks = Masks.none
    instead: tuple[str, ...] | None = None

    def objective_of(self, config: ObjectiveConfig) -> ObjectiveConfig:
        """The objective of this arm in a run whose own is `config`."""
        if self.only_instances:
            return contrast_instances(config)
        if self.instead is not None:
            kept = [name for name in config.distill.passes if name not in ("object", "parts")]
            passes = [*kept, *self.instead]
            config = replace(config, distill=replace(config.distill, passes=passes))
        return config if self.method is None else replace(config, method=self.method)


def contrast_instances(config: ObjectiveConfig) -> ObjectiveConfig:
    """Leave of PARTICLE the contrast of whole images alone: the control, and the base."""
    terms = replace(
        config.particle,
        part_weight=0.0,
        instance_weight=1.0,
        equivariance_weight=0.0,
        dino_weight=0.0,
    )
    return replace(config, method=MethodName.particle, particle=terms)


ARMS: dict[str, Arm] = {
    "instance": Arm("base + instance contrast", "control", only_instances=True),
    # with PARTICLE's exchange of backgrounds, which needs discovered parts: the same views, but no
    # part contrast
    "instance_views": Arm(
        "base + instance contrast, PARTICLE's views",
        "control_instance_views",
        only_instances=True,
        masks=Masks.discovered,
    ),
    "simclr": Arm("base + SimCLR", "control_simclr", MethodName.simclr),
    "moco": Arm("base + MoCo", "control_moco", MethodName.moco),
    "byol": Arm("base + BYOL", "control_byol", MethodName.byol),
    "dino": Arm("base + DINO", "control_dino", MethodName.dino),
    "detcon": Arm(
        "base + DetCon, Felzenszwalb masks",
        "control_detcon",
        MethodName.detcon,
        masks=Masks.felzenszwalb,
    ),
    # parts discovered once, and trained on for as long as all rounds together
    "one_round": Arm(
        "base + PARTICLE, one round as long", "control_one_round", masks=Masks.discovered
    ),
    # the same distillation towards crops that no discovery chose, and towards none
    "distill_random": Arm(
        "base + distill, random boxes",
        "control_distill_random",
        MethodName.distill,
        masks=Masks.discovered,
        instead=("random",),
    ),
    "distill_corners": Arm(
        "base + distill, corner squares",
        "control_distill_corners",
        MethodName.distill,
        instead=("corners",),
    ),
    "distill_none": Arm(
        "base + distill, whole images",
        "control_distill_none",
        MethodName.distill,
        instead=(),
    ),
}


def result_title(config: ObjectiveConfig) -> str:
    """The row of a run's result."""
    return OURS if config.method is MethodName.particle else f"base + {config.method.value}"


def felzenszwalb_parts(parts: PartsConfig) -> PartsConfig:
    """Masks of the whole photograph, background too, on the grid of the run's own parts."""
    return FelzenszwalbConfig(size=parts.size, k=MASKS, batch=parts.batch)
