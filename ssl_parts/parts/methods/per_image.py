"""Each image clustered by itself (PARTICLE, arXiv 2309.13822, section 3; docs/method.md, section
1.2). An id says nothing about other images.

Shapes: B images, N points, D channels, d directions kept.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.clustering.kmeans import kmeans, polish
from ssl_parts.parts.dense.features import Batch, FeatureSource
from ssl_parts.parts.dense.isometry import principal_directions
from ssl_parts.parts.dense.points import append_place
from ssl_parts.parts.dense.sampling import sample_cells, take_cells
from ssl_parts.parts.dense.stages import point_stages
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.methods.config import PerImageConfig
from ssl_parts.parts.methods.method import PartMethod, grid_of

BASIS_IMAGES, BASIS_POINTS, SALT = 64, 512, 2


class PerImage(PartMethod):
    """Batched k-means on the foreground points of each image."""

    def __init__(self, config: PerImageConfig, encoder: Encoder | None) -> None:
        self.config = config
        self.stages = point_stages(encoder, config, with_last=True)
        self.grid = grid_of(config, self.stages, config.size)
        self.basis_Dd: Tensor | None = None

    def fit(
        self, source: FeatureSource, foreground: Foreground, rows: np.ndarray | None = None
    ) -> dict[str, Any]:
        """The shared basis of parts.pca_dims, from a seeded sample; nothing without it."""
        if not self.config.pca_dims:
            return {}
        points = []
        for batch in source.batches(source.sample_rows(BASIS_IMAGES, SALT)):
            points_BND = self.grid.vectors(batch)
            cells_BM = sample_cells(source.seeds(batch.indices), points_BND.shape[1], BASIS_POINTS)
            points.append(take_cells(points_BND, cells_BM)[: batch.count].cpu())
        basis_Dd, share = principal_directions(torch.cat(points), self.config.pca_dims)
        return {"basis_Dd": basis_Dd, "share": torch.tensor(share)}

    def load(self, state: dict[str, Any]) -> None:
        """Take over the basis, where there is one."""
        self.basis_Dd = state.get("basis_Dd")

    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long: 0..k'-1 with k' <= k, and -1 outside the mask.

        Raises:
            PartDiscoveryError: fewer foreground points than parts, with the image's path.
        """
        config = self.config
        points = self.grid.points(batch) if self.basis_Dd is None else self._reduced(batch)
        found = kmeans(
            points,
            config.k,
            source.seeds(batch.indices),
            config.iterations,
            config.tolerance,
            weights_BN=mask_BN,
            names=batch.names,
        )
        if config.polish:
            points = self.grid.points(batch)
            found = polish(points, found.ids_BN, config.k, config.polish, mask_BN)
        return found.ids_BN

    def _reduced(self, batch: Batch) -> Tensor:
        """Points (B, N, d) on the directions kept, the place behind them."""
        assert self.basis_Dd is not None
        projected_BNd = self.grid.vectors(batch, self.basis_Dd.to(batch.images.device))
        return append_place(projected_BNd, self.grid.place)
