"""The configuration of part-aware pretraining: one dataclass of sections.

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field

from ssl_parts.data.config import DataConfig
from ssl_parts.encoders.config import EncoderConfig
from ssl_parts.engine.run_section import TrainingRunSection
from ssl_parts.errors import ConfigError
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.parts.config import PartsConfig
from ssl_parts.pretraining.arms import ARMS
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.views.config import ViewsConfig


@dataclass
class PretrainRun(TrainingRunSection):
    """Where a run lives and what it does beside training."""

    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    # also train the arms below: as many steps from the same base with other objectives
    control: bool = False
    # instance | instance_views | simclr | moco | byol | dino | detcon | one_round |
    # distill_random | distill_corners | distill_none (arms.py)
    arms: list[str] = field(default_factory=lambda: ["instance"])
    # evaluate base, arms and result where the data set has labels or part masks
    evaluate: bool = True
    # draw what the report shows of encoder and images: a minute on a CPU
    pictures: bool = True

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check()
        unknown = [name for name in self.arms if name not in ARMS]
        if unknown or len(set(self.arms)) < len(self.arms):
            wrong = f"{unknown[0]!r} is not an arm" if unknown else "each arm once"
            raise ConfigError(f"run.arms={list(self.arms)}: {wrong}; there are {', '.join(ARMS)}")

    @property
    def compared(self) -> list[str]:
        """Arms that this run trains."""
        return list(self.arms) if self.control else []


@dataclass
class PretrainConfig:
    """What pretraining reads. Each section validates its own keys."""

    run: PretrainRun = field(default_factory=PretrainRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        for section in vars(self).values():
            section.check()
