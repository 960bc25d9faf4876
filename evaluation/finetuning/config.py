"""The configuration of supervised training: data, encoder, head, augmentation, budget. Recipes:
configs/finetune. Imports no torch.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.data.config import DataConfig
from ssl_parts.encoders.config import EncoderConfig
from ssl_parts.engine.run_section import TrainingRunSection
from ssl_parts.errors import ConfigError


class Order(Enum):
    auto = "auto"  # class-balanced for SCRIM, shuffled for the others
    shuffled = "shuffled"  # every image once per pass
    class_balanced = "class_balanced"  # P classes x Q images per batch


class Select(Enum):
    last = "last"  # the weights after the last step
    # the best of the epochs on the split "val"; then train on data.split=fit
    validation = "validation"


@dataclass
class FinetuneRun(TrainingRunSection):
    """Where a run lives, and what is made beside its accuracy."""

    name: str = "finetune"
    # test images on the sheet of where the head finds its evidence; 0 for none
    pictures: int = bounded(8, at_least=0)
    # test images on which that is compared with boxes and parts; 0 for none
    overlap: int = bounded(1000, at_least=0)


@dataclass
class AugmentConfig:
    """Random crops and flips, and colour jitter. Evaluation sees whole images."""

    # of a crop, as a share of the image's area
    scale: list[float] = bounded([0.4, 1.0], above=0, at_most=1, length=2)
    ratio: list[float] = bounded([0.8, 1.25], above=0, length=2)  # width / height of a crop
    flip: float = bounded(0.5, at_least=0, at_most=1)  # probability
    jitter: float = bounded(0.8, at_least=0, at_most=1)  # probability of the four below
    brightness: float = bounded(0.2, at_least=0, at_most=1)
    contrast: float = bounded(0.2, at_least=0, at_most=1)
    saturation: float = bounded(0.2, at_least=0, at_most=1)
    # in turns of the colour circle; colours tell species apart
    hue: float = bounded(0.0, at_least=0, at_most=0.5)

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        check_bounds("augment", self)
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ConfigError(f"augment.{key}={[low, high]}: the lower value comes first")


@dataclass
class FinetuneTrain:
    """Budget and optimiser."""

    # --- budget: changes results and cost
    epochs: int = bounded(20, at_least=1)
    batch: int = bounded(32, at_least=1)  # over all processes
    frozen: bool = False  # train the head alone; the encoder keeps weights and statistics
    order: Order = Order.auto
    images_per_class: int = bounded(4, at_least=1)  # Q of a class-balanced batch; P = batch / Q
    select: Select = Select.last
    # --- optimiser
    optimizer: str = "adamw"  # any name that timm.optim knows
    lr: float = bounded(1e-3, at_least=0)  # peak, of the head
    # share of it for the encoder; null: 0.1 with weights, 1 from scratch
    encoder_lr: float | None = bounded(None, at_least=0, at_most=1)
    # learning rate of each encoder layer towards the input
    layer_decay: float = bounded(1.0, at_least=0, at_most=1)
    weight_decay: float = bounded(0.05, at_least=0)
    # share of the steps, linear from 0
    warmup_share: float = bounded(0.05, at_least=0, at_most=1)
    # shares of the steps at which lr falls tenfold; []: cosine
    milestones: list[float] = bounded([], above=0, below=1)
    clip: float | None = bounded(5.0, at_least=0)  # norm of the gradient; null does not clip
    freeze_norm: bool = False  # the encoder's batch-norm statistics stay
    # momentum of averaged weights, which are then the result; null: none
    ema: float | None = bounded(None, at_least=0, at_most=1)
    # --- checkpoints and logs: change nothing but disk and speed
    checkpoint_every: int = bounded(200, at_least=1)  # steps
    keep_checkpoints: int = bounded(1, at_least=1)
    log_every: int = bounded(10, at_least=1)  # steps

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        check_bounds("train", self)


@dataclass
class FinetuneConfig:
    """A supervised run."""

    run: FinetuneRun = field(default_factory=FinetuneRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: Any = MISSING  # one of evaluation.heads.config.HEAD_CONFIGS: the group configs/head
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: FinetuneTrain = field(default_factory=FinetuneTrain)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        for section in vars(self).values():
            section.check()
        if self.train.select is Select.validation and self.data.split != "fit":
            raise ConfigError(
                "train.select=validation chooses the epoch on the split val, so train on "
                f"data.split=fit, not {self.data.split}"
            )

    @property
    def order(self) -> Order:
        """The order with `auto` resolved."""
        if self.train.order is not Order.auto:
            return self.train.order
        return Order.class_balanced if self.head.name == "scrim" else Order.shuffled
