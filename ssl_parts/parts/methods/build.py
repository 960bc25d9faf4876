"""Methods by their configuration: one row per method."""

from typing import Any

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.methods.config import (
    CosegmentConfig,
    DatasetConfig,
    FelzenszwalbConfig,
    PartsConfig,
    PerImageConfig,
    SlicConfig,
)
from ssl_parts.parts.methods.cosegment import Cosegmentation
from ssl_parts.parts.methods.dataset import DatasetClustering
from ssl_parts.parts.methods.method import PartMethod
from ssl_parts.parts.methods.per_image import PerImage
from ssl_parts.parts.methods.superpixels import Felzenszwalb, Slic

METHODS: dict[type[PartsConfig], Any] = {
    PerImageConfig: PerImage,
    DatasetConfig: DatasetClustering,
    CosegmentConfig: Cosegmentation,
    SlicConfig: Slic,
    FelzenszwalbConfig: Felzenszwalb,
}


def build_method(config: PartsConfig, encoder: Encoder | None) -> PartMethod:
    """The method of a configuration.

    Args:
        encoder: whose maps are clustered; None where colours are, or superpixels are made.

    Raises:
        ConfigError: features of an encoder without one, or a stage that it does not have.
    """
    return METHODS[type(config)](config, encoder)
