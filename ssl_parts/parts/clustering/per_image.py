"""Method per_image: each image clustered on its own (METHODS §1.2). An id says nothing about other
images.

Shapes: B images, N points, D channels, d directions kept.
"""

import torch
from torch import Tensor

from ssl_parts.parts.clustering.kmeans import kmeans, polish
from ssl_parts.parts.config import PartsConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, append_place, sampled_cells
from ssl_parts.parts.dense.isometry import principal_directions

BASIS_IMAGES, BASIS_POINTS, SALT = 64, 512, 2


class PerImage:
    """Batched k-means on the foreground points of each image."""

    scope = "image"

    def __init__(self, config: PartsConfig) -> None:
        self.config = config
        self.basis_Dd: Tensor | None = None

    def fit(self, source: FeatureSource, foreground: object, rows: object = None) -> dict:
        """The shared basis of reduction=pca, from a seeded sample; nothing otherwise."""
        if self.config.reduction != "pca":
            return {}
        points = []
        for batch in source.batches(source.sample_rows(BASIS_IMAGES, SALT)):
            points_BND = source.appearance(batch)
            cells_BM = sampled_cells(source.seeds(batch.indices), points_BND.shape[1], BASIS_POINTS)
            rows_B1 = torch.arange(len(points_BND))[:, None]
            points.append(points_BND[rows_B1, cells_BM.to(points_BND.device)][: batch.count].cpu())
        basis_Dd, share = principal_directions(
            torch.cat(points), self.config.pca_dims, self.config.pca_share
        )
        return {"basis_Dd": basis_Dd, "share": torch.tensor(share)}

    def load(self, state: dict) -> None:
        self.basis_Dd = state.get("basis_Dd")

    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long: 0..k'-1, and -1 outside the mask."""
        config = self.config
        if config.reduction == "exact":
            points = source.points(batch)
        else:
            basis_Dd = None if self.basis_Dd is None else self.basis_Dd.to(source.device)
            points = append_place(source.appearance(batch, basis_Dd), source.place_weight)
        found = kmeans(
            points,
            config.k,
            source.seeds(batch.indices),
            config.iterations,
            config.tolerance,
            weights_BN=mask_BN,
            names=batch.names,
        )
        if config.reduction == "pca" and config.polish > 0:
            found = polish(source.points(batch), found.ids_BN, config.k, config.polish, mask_BN)
        return found.ids_BN
