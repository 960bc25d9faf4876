"""Recipes by name, as configurations.

    config = load_recipe("folder", ["data.root=photographs", "encoder.weights=mobilenet.pth"])

Imports no torch.
"""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from evaluation.protocols.config import PROTOCOLS
from ssl_parts.configuration.compose import compose_config, compose_words
from ssl_parts.parts.config import PartsConfig, register_groups
from ssl_parts.recipes.schemas import (
    Config,
    DiscoverConfig,
    EvaluateConfig,
    ShowConfig,
)


def load_recipe(recipe: str = "quickstart", words: Sequence[str] = ()) -> Config:
    """A recipe of configs/pretrain with changes, checked.

    Raises:
        ConfigError: as `compose_config`, or a value out of range.
    """
    config = compose_recipe(recipe, words)
    config.check()
    return config


def compose_recipe(recipe: str, words: Sequence[str]) -> Config:
    """A recipe of configs/pretrain with changes, not yet checked.

    Raises:
        ConfigError: as `compose_config`.
    """
    return compose_config(Config, "pretrain", recipe, words, register_groups)


def compose_discovery(recipe: str, words: Sequence[str]) -> DiscoverConfig:
    """A recipe of configs/discover with changes; raises as `compose_recipe`."""
    return compose_config(DiscoverConfig, "discover", recipe, words, register_groups)


def compose_evaluation(recipe: str, words: Sequence[str]) -> EvaluateConfig:
    """A recipe of configs/evaluate with changes; raises as `compose_recipe`."""
    return compose_config(EvaluateConfig, "evaluate", recipe, words, register_protocols)


def compose_show(recipe: None, words: Sequence[str]) -> ShowConfig:
    """The keys of a picture; raises as `compose_words`."""
    return compose_words(ShowConfig, words)


def register_protocols(store: ConfigStore) -> None:
    """Store the schema of each protocol as `protocol/ID_schema`, and those of discovery's parts."""
    register_groups(store)
    for name, kind in PROTOCOLS.items():
        # the file of the protocol chooses the method
        chosen_there = {"parts": PartsConfig()} if name == "discovery" else {}
        store.store(group="protocol", name=f"{name}_schema", node=kind(**chosen_there))


def load_show(words: Sequence[str]) -> ShowConfig:
    """The keys of a picture, checked; raises as `load_recipe`."""
    config = compose_show(None, words)
    config.check()
    return config


def load_discovery(recipe: str = "default", words: Sequence[str] = ()) -> DiscoverConfig:
    """A recipe of configs/discover with changes, checked; raises as `load_recipe`."""
    config = compose_discovery(recipe, words)
    config.check()
    return config


def load_evaluation(recipe: str = "default", words: Sequence[str] = ()) -> EvaluateConfig:
    """A recipe of configs/evaluate with changes, checked; raises as `load_recipe`."""
    config = compose_evaluation(recipe, words)
    config.check()
    return config
