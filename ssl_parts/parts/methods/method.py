"""What a method of part discovery is: ids for each batch. Some learn from other images first.

Shapes: B images, S size of the grid, N = S*S cells, D channels.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, PixelGrid
from ssl_parts.parts.foreground.foreground import Foreground


class PartMethod(ABC):
    """Gives every cell of the object a part.

    Attributes:
        stages: maps that every batch must have.
        group: so many consecutive images learn together; 0: all do, from a sample.
    """

    stages: tuple[str, ...] = ()
    group: int = 0

    @property
    def scope(self) -> str:
        """Where an id means the same part: in one "image", or in the whole "dataset"."""
        return "image"

    def fit(
        self, source: FeatureSource, foreground: Foreground, rows: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Learn from these images, or from a seeded sample.

        Returns:
            What was learned, as tensors for `load`; {} where nothing is.
        """
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take over what `fit` returned, here or in another process."""

    @abstractmethod
    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long, and -1 outside the mask."""

    def refine(self, ids_BSS: Tensor, batch: Batch, foreground: Foreground) -> Tensor:
        """Ids with the background's, corrected where the method does so."""
        return ids_BSS


def grid_of(config: DenseConfig, stages: tuple[str, ...], size: int) -> PixelGrid:
    """The points of these maps as configured; colours are not scaled to unit length."""
    normalize = config.normalize and config.features == "encoder"
    return PixelGrid(stages, size, normalize, config.position)
