"""What is trained: the terms of the objective and the width of the heads."""

from dataclasses import dataclass
from enum import Enum

from ssl_parts.errors import ConfigError


class Targets(Enum):
    teacher = "teacher"  # projections of the EMA teacher, through predictors: DetCon-B, PARTICLE; long schedules
    student = "student"  # the student's own projections, gradient on both sides: DetCon-S, SimCLR; short schedules


@dataclass
class ObjectiveConfig:
    """Weights of the terms and shapes of the heads. A term with weight 0 is not built."""

    part_weight: float = 1.0  # part contrast (METHODS §1.4)
    instance_weight: float = 1.0  # the same contrast with the whole image as its only part
    targets: Targets = Targets.teacher
    temperature: float = 0.1  # tau of both terms
    local_negatives: bool = True  # other parts of the same image are negatives
    samples: int = 10  # parts taken from each view
    hidden: int = 4096  # width of the heads
    projection: int = 256  # their output
    include_background: bool = False  # whether the background id is a part too (DetCon and PARTICLE: yes)

    def check(self) -> None:
        if self.part_weight < 0 or self.instance_weight < 0 or self.part_weight + self.instance_weight == 0:
            raise ConfigError(
                f"objective.part_weight={self.part_weight} and objective.instance_weight={self.instance_weight}: "
                "weights are at least 0 and one of them is positive"
            )
        if not self.temperature > 0:
            raise ConfigError(f"objective.temperature={self.temperature} must be positive (the paper uses 0.1)")
        for key in ("samples", "hidden", "projection"):
            if getattr(self, key) < 1:
                raise ConfigError(f"objective.{key}={getattr(self, key)} must be at least 1")
