"""The configuration of supervised training: data, encoder, head, augmentation, budget. Recipes:
configs/finetune.
"""

import argparse
import difflib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evaluation.finetuning.augment import AugmentConfig
from evaluation.heads import HEADS
from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.configuration.compose import (
    CONFIGS,
    flatten,
    parse_command_line,
    to_yaml,
)
from ssl_parts.data import DataConfig
from ssl_parts.encoders import EncoderConfig
from ssl_parts.engine.run_section import TrainingRunSection
from ssl_parts.errors import ConfigError, SslPartsError

GROUPS = ("data", "encoder", "head")


class Order(Enum):
    auto = "auto"  # class-balanced for SCRIM, shuffled for the others
    shuffled = "shuffled"  # every image once a pass
    class_balanced = "class_balanced"  # P classes x Q images a batch


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


_STORE = ConfigStore.instance()
_STORE.store(name="finetune_schema", node=FinetuneConfig)
for _name, _kind in HEADS.items():
    _STORE.store(group="head", name=f"{_name}_schema", node=_kind.config_class)


def load_finetune(
    recipe: str = "default", overrides: Sequence[str] = (), configs: Path = CONFIGS
) -> FinetuneConfig:
    """Compose `configs/finetune/RECIPE.yaml` with overrides.

    Raises:
        ConfigError: an unknown recipe, group or key (with the nearest known one), a value of the
            wrong type or range.
    """
    recipes = sorted(p.stem for p in (configs / "finetune").glob("*.yaml"))
    if recipe not in recipes:
        raise ConfigError(
            f"no recipe {recipe!r} in {configs / 'finetune'}; there are: {', '.join(recipes)}"
        )
    try:
        with initialize_config_dir(str(configs), version_base="1.3"):
            composed = compose(f"finetune/{recipe}", overrides=list(overrides))
        config: FinetuneConfig = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, recipe, overrides, configs)) from error
    config.check()
    return config


def _explain(error: Exception, recipe: str, overrides: Sequence[str], configs: Path) -> str:
    """Which group or key does not exist and the nearest that does, or else Hydra's own first
    lines.
    """
    chosen = []
    for override in overrides:
        group, _, value = override.partition("=")
        if group in GROUPS:
            options = sorted(p.stem for p in (configs / group).glob("*.yaml"))
            if value not in options:
                return f"{override}: no such file in configs/{group}{_near(value, options)}; it has: {', '.join(options)}"
            chosen.append(override)
    with initialize_config_dir(str(configs), version_base="1.3"):
        known = list(flatten(OmegaConf.to_object(compose(f"finetune/{recipe}", overrides=chosen))))
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key not in (*known, *GROUPS) and not key.startswith("encoder.timm_kwargs."):
            return f"unknown key {key!r} in {override!r}{_near(key, known)}; --show-config prints all keys"
    text = str(error.__cause__ or error).strip().splitlines()
    return (
        f"{' '.join(line.strip() for line in text[:2])} (in {' '.join(overrides) or 'the recipe'})"
    )


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def finetune_command(
    act: Callable[[FinetuneConfig, argparse.Namespace], object],
    description: str,
    add_options: Callable[[argparse.ArgumentParser], object] | None = None,
) -> None:
    """The main of a launch script for supervised training; one line for a user's mistake."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-name",
        default="default",
        help="recipe: a file of configs/finetune/ (default: %(default)s)",
    )
    parser.add_argument(
        "--show-config", action="store_true", help="print the whole configuration and stop"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as head=tdsa data=cub data.root=DIR"
    )
    if add_options is not None:
        add_options(parser)
    arguments = parse_command_line(parser)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        config = load_finetune(arguments.config_name, arguments.overrides)
        if arguments.show_config:
            print(to_yaml(config))
            return
        act(config, arguments)
    except SslPartsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
