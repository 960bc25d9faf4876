"""What is trained: the method, the terms of the objective and the width of the heads."""

from dataclasses import dataclass, field
from enum import Enum

from ssl_parts.errors import ConfigError


class Targets(Enum):
    # projections of the EMA teacher, through predictors: DetCon-B, PARTICLE; long schedules
    teacher = "teacher"
    # the student's own projections, gradient on both sides: DetCon-S, SimCLR; short schedules
    student = "student"


@dataclass
class ObjectiveConfig:
    """What is learnt, weights of the terms and shapes of the heads. A term with weight 0 is not
    built.
    """

    # particle | simclr | moco | byol | dino | detcon (the rows of METHODS in methods.py)
    method: str = "particle"
    # --- terms of particle
    part_weight: float = 1.0  # part contrast (METHODS §1.4)
    instance_weight: float = 1.0  # the same contrast with the whole image as its only part
    # part assignments of the two views agree where the views overlap (§1.4.5)
    equivariance_weight: float = 0.0
    dino_weight: float = 0.0  # the DINO loss on whole images (the paper's ViT recipe: 1)
    local_negatives: bool = True  # other parts of the same image are negatives
    queue: int = 0  # so many past part targets are negatives too
    # whether the background id is a part too (DetCon and PARTICLE: yes)
    include_background: bool = False
    # --- of several methods
    targets: Targets = Targets.teacher  # particle, detcon; the other methods know their own
    temperature: float = 0.1  # tau of every contrast
    samples: int = 10  # parts taken from each view
    hidden: int = 4096  # width of the heads
    projection: int = 256  # their output; DINO's bottleneck
    # --- of one
    moco_queue: int = 4096  # keys of MoCo's queue (the paper: 65,536)
    dino_prototypes: int = 65536
    # of the teacher: first, after warm-up
    dino_temperature: list[float] = field(default_factory=lambda: [0.04, 0.07])
    dino_warmup_share: float = 0.2  # of a phase until the second (the paper: 20 of 100 epochs)
    # of a phase in which the prototypes stay as they are (the paper: 1 of 100 epochs)
    dino_freeze_share: float = 0.01

    def check(self) -> None:
        """ConfigError for the first value that cannot work."""
        from ssl_parts.objectives.registry import METHODS  # which needs this class

        if self.method not in METHODS:
            raise ConfigError(
                f"objective.method={self.method!r} is not one of {', '.join(METHODS)}"
            )
        self._check_weights()
        if not self.temperature > 0:
            raise ConfigError(
                f"objective.temperature={self.temperature} must be positive (the paper uses 0.1)"
            )
        for key in ("samples", "hidden", "projection", "moco_queue", "dino_prototypes"):
            if getattr(self, key) < 1:
                raise ConfigError(f"objective.{key}={getattr(self, key)} must be at least 1")
        if self.queue < 0:
            raise ConfigError(f"objective.queue={self.queue} must be at least 0")
        if len(self.dino_temperature) != 2 or not min(self.dino_temperature) > 0:
            raise ConfigError(
                f"objective.dino_temperature={list(self.dino_temperature)}: two positive numbers"
            )
        for key in ("dino_warmup_share", "dino_freeze_share"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"objective.{key}={getattr(self, key)} must lie in [0, 1]")

    def _check_weights(self) -> None:
        weights = {key: getattr(self, key) for key in WEIGHTS}
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            listed = ", ".join(f"objective.{key}={value}" for key, value in weights.items())
            raise ConfigError(f"{listed}: weights are at least 0 and one of them is positive")
        if self.dino_weight > 0 and self.targets is not Targets.teacher:
            raise ConfigError(
                f"objective.dino_weight={self.dino_weight} needs a teacher, but objective.targets=student; "
                "set objective.targets=teacher"
            )


WEIGHTS = ("part_weight", "instance_weight", "equivariance_weight", "dino_weight")
