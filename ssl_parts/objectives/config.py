"""The keys of `objective`: which method trains, its terms, and the width of its heads.

Imports neither torch nor numpy: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field
from enum import Enum

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError
from ssl_parts.parts.crops_config import CropsConfig


class MethodName(Enum):
    """What `objective.method` takes, each with the line that a list of methods shows.

    Example:
        >>> MethodName("byol").description
        "the teacher's projection of the other view, predicted; no negatives (arXiv 2006.07733)"
    """

    particle = "particle", "discovered parts against all other parts (arXiv 2309.13822)"
    simclr = "simclr", "each image against the batch, no teacher (arXiv 2002.05709)"
    moco = "moco", "each image against a queue of past keys (arXiv 1911.05722)"
    byol = (
        "byol",
        "the teacher's projection of the other view, predicted; no negatives (arXiv 2006.07733)",
    )
    dino = "dino", "the teacher's distribution over prototypes (arXiv 2104.14294)"
    detcon = "detcon", "masks from outside against all other masks (arXiv 2103.10957)"
    distill = "distill", "one view near the mean embedding of the image, its object and its parts"

    description: str

    def __new__(cls, value: str, description: str = "") -> "MethodName":
        member = object.__new__(cls)
        member._value_ = value
        member.description = description
        return member


class Targets(Enum):
    """Where the vectors come from that predictions are compared with."""

    # projections of the EMA teacher, through predictors: DetCon-B, PARTICLE; long schedules
    teacher = "teacher"
    # the student's own projections, gradient on both sides: DetCon-S, SimCLR; short schedules
    student = "student"


@dataclass
class ParticleConfig:
    """Terms of `method=particle`; a term of weight 0 is not computed and costs nothing."""

    part_weight: float = bounded(1.0, at_least=0)  # part contrast
    # the same contrast with the whole image as its only part
    instance_weight: float = bounded(1.0, at_least=0)
    # part assignments of the two views agree where the views overlap
    equivariance_weight: float = bounded(0.0, at_least=0)
    # the DINO loss on whole images (the paper's recipe for ViTs: 1)
    dino_weight: float = bounded(0.0, at_least=0)
    local_negatives: bool = True  # other parts of the same image are negatives
    queue: int = bounded(0, at_least=0)  # so many past part targets are negatives too
    # whether the background id is a part too (DetCon and PARTICLE: yes)
    include_background: bool = False

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("objective.particle", self)
        weights = {key: getattr(self, key) for key in WEIGHTS}
        if sum(weights.values()) == 0:
            listed = ", ".join(
                f"objective.particle.{key}={value}" for key, value in weights.items()
            )
            raise ConfigError(f"{listed}: one of these weights must be positive")


@dataclass
class MocoConfig:
    """Keys of `method=moco` alone."""

    queue: int = bounded(4096, at_least=1)  # past keys that are negatives (the paper: 65,536)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("objective.moco", self)


@dataclass
class DinoConfig:
    """Keys of `method=dino`, and of particle's term with a `dino_weight`."""

    prototypes: int = bounded(65536, at_least=1)
    # of the teacher: first, and after the warm-up
    temperature: list[float] = bounded([0.04, 0.07], above=0, length=2)
    # share of a phase until the second (the paper: 20 of 100 epochs)
    warmup_share: float = bounded(0.2, at_least=0, at_most=1)
    # share of a phase in which the prototypes stay as they are (the paper: 1 of 100 epochs)
    freeze_share: float = bounded(0.01, at_least=0, at_most=1)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("objective.dino", self)


@dataclass
class DistillConfig(CropsConfig):
    """Keys of `method=distill` alone: what its teacher averages."""

    def check(self, section: str = "objective.distill") -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check(section)


@dataclass
class ObjectiveConfig:
    """What is learnt from two views. Keys of one method stand in the section of its name.

    All sections exist whichever method trains: the arms of a run (`run.arms`) train several.
    """

    method: MethodName = MethodName.particle
    # --- of several methods
    targets: Targets = Targets.teacher  # particle, detcon; the other methods know their own
    # tau of every contrast; particle, simclr, moco, detcon
    temperature: float = bounded(0.1, above=0, why="the paper uses 0.1")
    samples: int = bounded(10, at_least=1)  # parts taken from each view; particle, detcon
    hidden: int = bounded(4096, at_least=1)  # width of the heads
    projection: int = bounded(256, at_least=1)  # their output; DINO's bottleneck
    # --- of one
    particle: ParticleConfig = field(default_factory=ParticleConfig)
    moco: MocoConfig = field(default_factory=MocoConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("objective", self)
        for section in (self.particle, self.moco, self.dino, self.distill):
            section.check()
        if self.particle.dino_weight > 0 and self.targets is not Targets.teacher:
            raise ConfigError(
                f"objective.particle.dino_weight={self.particle.dino_weight} needs a teacher, but "
                "objective.targets=student; set objective.targets=teacher"
            )


WEIGHTS = ("part_weight", "instance_weight", "equivariance_weight", "dino_weight")
