"""The configuration of supervised training: data, encoder, head, augmentation, budget. Recipes:
configs/finetune.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from evaluation.finetuning.augment import AugmentConfig
from evaluation.heads import HEADS
from ssl_parts.configuration.compose import compose_config
from ssl_parts.data import DataConfig
from ssl_parts.encoders import EncoderConfig
from ssl_parts.engine.run_section import Precision, Resume, RunSection
from ssl_parts.errors import ConfigError


class Order(Enum):
    auto = "auto"  # class-balanced for SCRIM, shuffled for the others
    shuffled = "shuffled"  # every image once a pass
    class_balanced = "class_balanced"  # P classes x Q images a batch


class Select(Enum):
    last = "last"  # the weights after the last step
    # the best of the epochs on the split "val"; then train on data.split=fit
    validation = "validation"


@dataclass
class FinetuneRun:
    """Where a run lives, and what is made beside its accuracy."""

    name: str = "finetune"
    dir: str = "runs"
    seed: int = 0
    resume: Resume = Resume.auto
    precision: Precision = Precision.auto
    threads: int | None = None  # of each process; null: cores / processes on this machine
    timeout_minutes: float = 120.0  # how long processes wait for each other before they give up
    trackers: list[str] = field(default_factory=list)  # of accelerate, as tensorboard
    pictures: int = 8  # test images on the sheet of what the method looks at; 0 for none
    overlap: int = 1000  # test images on which looks are compared with boxes and parts; 0 for none

    def check(self) -> None:
        RunSection(name=self.name, threads=self.threads, seed=self.seed).check()
        if min(self.pictures, self.overlap) < 0:
            raise ConfigError(
                f"run.pictures={self.pictures}, run.overlap={self.overlap} must be at least 0"
            )


@dataclass
class FinetuneTrain:
    """Budget and optimiser."""

    # --- budget: changes results and cost
    epochs: int = 20
    batch: int = 32  # over all processes
    frozen: bool = False  # train the head alone; the encoder keeps weights and statistics
    order: Order = Order.auto
    images_per_class: int = 4  # Q of a class-balanced batch; P = batch / Q
    select: Select = Select.last
    # --- optimiser
    optimizer: str = "adamw"  # any name that timm.optim knows
    lr: float = 1e-3  # peak, of the head
    # share of it for the encoder; null: 0.1 with weights, 1 from scratch
    encoder_lr: float | None = None
    layer_decay: float = 1.0  # learning rate of each encoder layer towards the input
    weight_decay: float = 0.05
    warmup_share: float = 0.05  # of the steps, linear from 0
    # shares of the steps at which lr falls tenfold; []: cosine
    milestones: list[float] = field(default_factory=list)
    clip: float | None = 5.0  # norm of the gradient; null does not clip
    freeze_norm: bool = False  # the encoder's batch-norm statistics stay
    ema: float | None = None  # momentum of averaged weights, which are then the result; null: none
    # --- checkpoints and logs: change nothing but disk and speed
    checkpoint_every: int = 200  # steps
    keep_checkpoints: int = 1
    log_every: int = 10  # steps

    def check(self) -> None:
        for key in (
            "epochs",
            "batch",
            "images_per_class",
            "checkpoint_every",
            "keep_checkpoints",
            "log_every",
        ):
            if getattr(self, key) < 1:
                raise ConfigError(f"train.{key}={getattr(self, key)} must be at least 1")
        for key in ("encoder_lr", "layer_decay", "warmup_share", "ema"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"train.{key}={value} must lie in [0, 1]")
        for key in ("lr", "weight_decay", "clip"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"train.{key}={value} must be a finite number of at least 0")
        if not all(0 < m < 1 for m in self.milestones):
            raise ConfigError(
                f"train.milestones={list(self.milestones)}: shares of the training between 0 and 1"
            )


@dataclass
class FinetuneConfig:
    """A supervised run. `head` is the config of one head of evaluation.heads."""

    run: FinetuneRun = field(default_factory=FinetuneRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: Any = MISSING
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: FinetuneTrain = field(default_factory=FinetuneTrain)

    def check(self) -> None:
        for room in vars(self).values():
            room.check()
        if self.train.select is Select.validation and self.data.split != "fit":
            raise ConfigError(
                f"train.select=validation chooses the epoch on the split val, so train on data.split=fit, not "
                f"{self.data.split}"
            )

    @property
    def order(self) -> Order:
        """The order with `auto` resolved."""
        if self.train.order is not Order.auto:
            return self.train.order
        return Order.class_balanced if self.head.name == "scrim" else Order.shuffled


def register_heads(store: ConfigStore) -> None:
    """Store the schema of each head as `head/NAME_schema`."""
    for name, kind in HEADS.items():
        store.store(group="head", name=f"{name}_schema", node=kind.config_class)


def compose_finetuning(recipe: str = "default", words: Sequence[str] = ()) -> FinetuneConfig:
    """A recipe of configs/finetune with changes, not yet checked.

    Raises:
        ConfigError: as `compose_config`.
    """
    return compose_config(FinetuneConfig, "finetune", recipe, words, register_heads)


def load_finetune(recipe: str = "default", words: Sequence[str] = ()) -> FinetuneConfig:
    """A recipe of configs/finetune with changes, checked.

    Raises:
        ConfigError: as `load_config`.
    """
    config = compose_finetuning(recipe, words)
    config.check()
    return config
