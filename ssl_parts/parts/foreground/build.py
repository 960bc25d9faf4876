"""Foreground methods by their configuration: one row per method."""

from typing import Any

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.foreground.annotated import BoxForeground, MaskForeground, NoForeground
from ssl_parts.parts.foreground.component import ComponentForeground
from ssl_parts.parts.foreground.config import (
    BoxConfig,
    ComponentConfig,
    ForegroundConfig,
    MaskConfig,
    MiningConfig,
    NoForegroundConfig,
    SaliencyConfig,
    ScoredConfig,
    VotesConfig,
)
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.foreground.mining import MiningForeground
from ssl_parts.parts.foreground.saliency import SaliencyForeground
from ssl_parts.parts.foreground.votes import VotesForeground

FOREGROUNDS: dict[type[ForegroundConfig], Any] = {
    NoForegroundConfig: NoForeground,
    VotesConfig: VotesForeground,
    ComponentConfig: ComponentForeground,
    SaliencyConfig: SaliencyForeground,
    MiningConfig: MiningForeground,
    BoxConfig: BoxForeground,
    MaskConfig: MaskForeground,
}


def build_foreground(
    config: ForegroundConfig, encoder: Encoder | None, dense: DenseConfig, size: int
) -> Foreground:
    """The method of a configuration.

    Args:
        encoder: whose maps are read; None where only colour or annotations are.
        dense: which descriptors of a ViT are read.
        size: of the grid of ids.

    Raises:
        ConfigError: a stage that the encoder does not have.
    """
    kind = FOREGROUNDS[type(config)]
    return kind(config, encoder, dense, size) if isinstance(config, ScoredConfig) else kind(size)
