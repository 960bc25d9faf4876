"""The configuration of a run: one dataclass of dataclasses, filled by hydra from configs/ and the
command line.

`load_config("quickstart", ["data=cub", "data.root=DIR"])` composes, checks types and names, and
returns a `Config`. Hydra's compose is used rather than `hydra.main`: it leaves the working
directory, logging and sys.argv alone, which is what `accelerate launch` and `torchrun` need;
sweeps over seeds and arms are `launch/compare.py`.
"""

import argparse
import difflib
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evaluation.protocols.config import EvaluationConfig
from ssl_parts.data import DataConfig
from ssl_parts.encoders import EncoderConfig
from ssl_parts.engine.run_section import Precision, Resume
from ssl_parts.errors import ConfigError, SslPartsError
from ssl_parts.objectives import ObjectiveConfig
from ssl_parts.parts import PartsConfig
from ssl_parts.pretraining.arms import ARMS
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.views import ViewsConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass
class RunConfig:
    """Where a run lives and what it does beside training."""

    name: str = "run"
    dir: str = "runs"
    seed: int = 0
    resume: Resume = Resume.auto
    precision: Precision = Precision.auto
    # also train the arms below: as many steps from the same base with other objectives instance |
    # instance_views | simclr | moco | byol | dino | detcon | one_round
    # (ssl_parts/pretraining/arms.py)
    control: bool = False
    arms: list[str] = field(default_factory=lambda: ["instance"])
    evaluate: bool = True  # evaluate base, arms and result where the data set has labels
    pictures: bool = True  # draw what the report shows of encoder and images: a minute on a CPU
    threads: int | None = None  # of each process; null: cores / processes on this machine
    timeout_minutes: float = 120.0  # how long processes wait for each other before they give up
    # of accelerate; [] for none
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])

    def check(self) -> None:
        if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", self.name) or ".." in self.name:
            raise ConfigError(
                f"run.name={self.name!r}: use letters, digits, '_', '-', '.' and '/' for a folder under run.dir"
            )
        unknown = [name for name in self.arms if name not in ARMS]
        if unknown or len(set(self.arms)) < len(self.arms):
            wrong = f"{unknown[0]!r} is not an arm" if unknown else "each arm once"
            raise ConfigError(f"run.arms={list(self.arms)}: {wrong}; there are {', '.join(ARMS)}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"run.threads={self.threads} must be at least 1")
        if not 0 < self.timeout_minutes < float("inf"):
            raise ConfigError(
                f"run.timeout_minutes={self.timeout_minutes} must be a positive number"
            )


@dataclass
class Config:
    """A recipe. Every room checks its own part."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def check(self) -> None:
        for room in vars(self).values():
            room.check()


ConfigStore.instance().store(name="schema", node=Config)
# ${times:${data.size},0.75} in a recipe: a size that follows another, rounded down to a whole
# number
OmegaConf.register_new_resolver("times", lambda size, factor: int(size * factor), replace=True)


def load_config(name: str, overrides: Sequence[str] = (), configs: Path = CONFIGS) -> Config:
    """Compose `configs/NAME.yaml` with overrides.

    Raises:
        ConfigError: unknown recipe, unknown key (with the nearest known one), a value of the wrong
            type or range.
    """
    if not (configs / f"{name}.yaml").is_file():
        recipes = sorted(p.stem for p in configs.glob("*.yaml"))
        raise ConfigError(
            f"no recipe {name!r} in {configs}{_did_you_mean(name, recipes)}; there are: {', '.join(recipes)}"
        )
    try:
        with initialize_config_dir(str(configs), version_base="1.3"):
            composed = compose(name, overrides=list(overrides))
        config: Config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, name, overrides, configs)) from error
    config.check()
    return config


def to_yaml(config: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"train.lr": 0.1, ...}: enums by name, lists whole."""
    if not isinstance(config, DictConfig | dict):
        config = OmegaConf.structured(config)
    container = (
        config
        if isinstance(config, dict)
        else OmegaConf.to_container(config, enum_to_str=True, resolve=True)
    )
    flat: dict[str, Any] = {}
    for key, value in container.items():
        name = f"{prefix}{key}"
        flat.update(
            flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
        )
    return flat


def parse_command_line(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Options and key=value in any order; in `--seeds 0 1 2 data=cub` argparse alone would take
    the key for a seed.
    """
    changes = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    arguments = parser.parse_intermixed_args([word for word in sys.argv[1:] if word not in changes])
    arguments.overrides += changes
    return arguments


def command(
    recipe: str,
    act: Callable[[Config, argparse.Namespace], object],
    description: str,
    add_options: Callable[[argparse.ArgumentParser], object] | None = None,
) -> None:
    """The main of a launch script: recipe and key=value from the command line, one line for a
    user's mistake.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-name",
        default=recipe,
        help="recipe: a file of configs/ without .yaml (default: %(default)s)",
    )
    parser.add_argument(
        "--show-config", action="store_true", help="print the whole configuration and stop"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes to it, as data=cub data.root=DIR"
    )
    if add_options is not None:
        add_options(parser)
    arguments = parse_command_line(parser)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        config = load_config(arguments.config_name, arguments.overrides)
        if arguments.show_config:
            print(to_yaml(config))
            return
        act(config, arguments)
    except SslPartsError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _explain(error: Exception, name: str, overrides: Sequence[str], configs: Path) -> str:
    """Hydra's message in our words: which key, the value, the nearest known name."""
    known = _keys(name, overrides, configs)
    groups = sorted(p.name for p in configs.iterdir() if p.is_dir())
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in groups:
            options = sorted(p.stem for p in (configs / key).glob("*.yaml"))
            if value and value not in options:
                near = _did_you_mean(value, options)
                return f"{key}={value}: no such file in configs/{key}{near}; there are: {', '.join(options)}"
        elif (
            key not in known
            and not any(name.startswith(f"{key}.") for name in known)
            and not _free(key)
        ):
            near = _did_you_mean(key, known + groups)
            return f"unknown key {key!r} in {override!r}{near}; --show-config prints all keys"
    text = str(error.__cause__ or error).strip().splitlines()
    return (
        f"{' '.join(line.strip() for line in text[:2])} (in {' '.join(overrides) or 'the recipe'})"
    )


def _keys(name: str, overrides: Sequence[str], configs: Path) -> list[str]:
    """Keys of a recipe with the groups that were asked for, where these exist."""
    files = [word for word in overrides if (configs / f"{word.replace('=', '/')}.yaml").is_file()]
    try:
        with initialize_config_dir(str(configs), version_base="1.3"):
            return list(flatten(compose(name, overrides=files)))
    except (HydraException, OmegaConfBaseException):
        return list(flatten(Config()))


def _free(key: str) -> bool:
    """Keys below a free dictionary, which takes any name (timm's own keyword arguments)."""
    return key.startswith("encoder.timm_kwargs.")


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
