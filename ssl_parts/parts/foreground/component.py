"""Foreground by the first principal component of an image's features: needs no other images.

Shapes: B images, G size of the grid of the decision.
"""

from torch import Tensor

from ssl_parts.parts.dense.features import Batch
from ssl_parts.parts.foreground.foreground import ScoredForeground
from ssl_parts.parts.foreground.scores import component_scores


class ComponentForeground(ScoredForeground):
    """The side of the component that touches the image's border less."""

    def scores(self, batch: Batch) -> Tensor:
        """The component (B, G*G), smoothed."""
        points_BND = self.grid.vectors(batch)
        return self.smoothed(component_scores(points_BND), points_BND)
