"""Recipes of supervised training, composed from configs/finetune and the command line."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evaluation.finetuning.config import FinetuneConfig
from evaluation.heads.config import HEAD_CONFIGS
from ssl_parts.configuration.compose import CONFIGS, flatten, parse_command_line, to_yaml
from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError, SslPartsError

GROUPS = ("data", "encoder", "head")
_STORE = ConfigStore.instance()
_STORE.store(name="finetune_schema", node=FinetuneConfig)
for _name, _kind in HEAD_CONFIGS.items():
    _STORE.store(group="head", name=f"{_name}_schema", node=_kind)


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
        config = cast(FinetuneConfig, OmegaConf.to_object(composed))
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
                return f"{override}: no such file in configs/{group}{did_you_mean(value, options)}; it has: {', '.join(options)}"
            chosen.append(override)
    with initialize_config_dir(str(configs), version_base="1.3"):
        known = list(flatten(OmegaConf.to_object(compose(f"finetune/{recipe}", overrides=chosen))))
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key not in (*known, *GROUPS) and not key.startswith("encoder.timm_kwargs."):
            return f"unknown key {key!r} in {override!r}{did_you_mean(key, known)}; --show-config prints all keys"
    text = str(error.__cause__ or error).strip().splitlines()
    return (
        f"{' '.join(line.strip() for line in text[:2])} (in {' '.join(overrides) or 'the recipe'})"
    )


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
