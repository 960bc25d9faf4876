"""What a foreground method is: which cells of an image are object. Some learn from a sample first.

Shapes: B images, n of which were asked for, S size of the grid of ids, N = S*S cells, G size of the
coarser grid of the decision.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, PixelGrid
from ssl_parts.parts.dense.stages import decision_stages
from ssl_parts.parts.foreground.config import ScoredConfig
from ssl_parts.parts.foreground.scores import smooth, to_mask

SALT = 1


class Foreground(ABC):
    """Tells object from background.

    Attributes:
        stages: maps that every batch must have.
        size: S.
    """

    stages: tuple[str, ...] = ()

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, source: FeatureSource, rows: np.ndarray | None = None) -> dict[str, Any]:
        """Learn from these images, or from a seeded sample.

        Returns:
            What was learned, as tensors for `load`; {} where nothing is.
        """
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take over what `fit` returned, here or in another process."""

    @abstractmethod
    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Which cells are object: bool (B, N); None where everything is clustered.

        Raises:
            PartDiscoveryError: a data set without the annotation that the method needs.
        """

    def background_costs(self, batch: Batch) -> Tensor | None:
        """Squared distance (B, S, S) to the nearest background cluster; None without clusters."""
        return None


class ScoredForeground(Foreground):
    """Object where scores of an encoder's features are positive, at least a share of each image."""

    def __init__(
        self, config: ScoredConfig, encoder: Encoder | None, dense: DenseConfig, size: int
    ) -> None:
        super().__init__(size)
        self.scored = config
        self.stages = decision_stages(encoder, config.stages, dense)
        self.grid = PixelGrid(self.stages, config.size)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Scores (B, G*G), positive on the object."""

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Scores above zero, resized to the grid of ids."""
        return to_mask(self.scores(batch), self.size, self.scored.least_share)

    def smoothed(self, scores_BN: Tensor, points_BND: Tensor) -> Tensor:
        """Scores of cells that are near and look alike are averaged, (B, G*G)."""
        return smooth(scores_BN, points_BND, self.scored.smoothing)
