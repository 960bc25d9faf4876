"""Recipes of supervised training, composed from configs/finetune and the command line.

Imports no torch.
"""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from evaluation.finetuning.config import FinetuneConfig
from evaluation.heads.config import HEAD_CONFIGS
from ssl_parts.configuration.compose import compose_config


def register_heads(store: ConfigStore) -> None:
    """Store the schema of each head as `head/NAME_schema`."""
    for name, kind in HEAD_CONFIGS.items():
        store.store(group="head", name=f"{name}_schema", node=kind)


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
