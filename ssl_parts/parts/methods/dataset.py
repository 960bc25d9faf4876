"""One clustering for all images, so that an id means the same part everywhere.

Shapes: B images, N points, P sampled points, D channels, K clusters, S size of the grid.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.clustering.centroids import fit_centroids
from ssl_parts.parts.dense.features import Batch, FeatureSource
from ssl_parts.parts.dense.points import append_place
from ssl_parts.parts.dense.sampling import uniforms
from ssl_parts.parts.dense.stages import point_stages
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.methods.config import DatasetConfig
from ssl_parts.parts.methods.method import PartMethod, grid_of

SALT = 3


class DatasetClustering(PartMethod):
    """Centroids from sampled foreground points; every point of every image goes to the nearest."""

    def __init__(self, config: DatasetConfig, encoder: Encoder | None) -> None:
        self.config = config
        self.stages = point_stages(encoder, config, with_last=False)
        self.grid = grid_of(config, self.stages, config.size)
        self.mean_D = torch.empty(0)
        self.centroids_KD = torch.empty(0, 0)

    @property
    def scope(self) -> str:
        """An id means the same part in every image."""
        return "dataset"

    @property
    def parts(self) -> int:
        """Clusters that were found, K."""
        return len(self.centroids_KD)

    def fit(
        self, source: FeatureSource, foreground: Foreground, rows: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Centroids from these images, or from a seeded sample; of each, sampled foreground points.

        Raises:
            PartDiscoveryError: fewer points than clusters.
        """
        config = self.config
        rows = source.sample_rows(config.sample_images, SALT) if rows is None else rows
        points = []
        for batch in source.batches(rows):
            points += self._sampled(batch, source, foreground.mask(batch, source))
        points_PD = torch.cat(points)
        mean_D = points_PD.mean(0) if config.centre else torch.zeros(points_PD.shape[1])
        prepared_PD = self._prepare(points_PD, mean_D)
        centroids_KD = fit_centroids(prepared_PD, config.k, config.seed, config)
        return {"mean_D": mean_D, "centroids_KD": centroids_KD}

    def _sampled(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> list[Tensor]:
        """At most parts.sample_points foreground points (P, D) of each image, on the CPU."""
        points_BND = self.grid.vectors(batch)
        draws_BN = uniforms(source.seeds(batch.indices), points_BND.shape[1]).to(points_BND.device)
        points = []
        for b in range(batch.count):
            draw_N, available = draws_BN[b], draws_BN.shape[1]
            if mask_BN is not None:
                draw_N, available = draw_N.masked_fill(~mask_BN[b], 2.0), int(mask_BN[b].sum())
            chosen_P = draw_N.argsort(stable=True)[: min(self.config.sample_points, available)]
            placed_ND = append_place(points_BND[b][None], self.grid.place)[0]
            points.append(placed_ND[chosen_P].cpu())
        return points

    def load(self, state: dict[str, Any]) -> None:
        """Take over mean and centroids."""
        self.mean_D, self.centroids_KD = state["mean_D"], state["centroids_KD"]

    def reorder(self, state: dict[str, Any], order_K: np.ndarray) -> None:
        """Put the centroids of `state` in this order, so that ids agree with an earlier round's."""
        state["centroids_KD"] = state["centroids_KD"][torch.from_numpy(order_K)]

    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long: 0..K-1 with the same meaning in all images, and -1 outside the
        mask.
        """
        ids_BN = self._up_to_norms(batch).argmin(-1)
        return ids_BN if mask_BN is None else torch.where(mask_BN, ids_BN, -1)

    def _up_to_norms(self, batch: Batch) -> Tensor:
        """||c||^2 - 2 c.(x - mean) (B, N, K): least at the nearest centroid, whatever the length of
        x - mean.

        Only the products c.x are needed, and those come from the small maps.
        """
        centroids_KD, place = self.centroids_KD.to(batch.images.device), self.grid.place
        wide = centroids_KD.shape[1] - (2 if place else 0)
        products_BNK = self.grid.vectors(batch, centroids_KD[:, :wide].T)
        if place:
            place_BN2 = append_place(products_BNK[..., :0], place)
            products_BNK = products_BNK + place_BN2 @ centroids_KD[:, wide:].T
        mean_D = self.mean_D.to(batch.images.device)
        offsets_K = centroids_KD.square().sum(1) + 2 * centroids_KD @ mean_D
        return offsets_K - 2 * products_BNK

    def costs(self, batch: Batch) -> Tensor:
        """Squared distance (B, K, S, S) of each point to each centroid, in the space that was
        clustered.
        """
        points_BND = append_place(self.grid.vectors(batch), self.grid.place)
        prepared_BND = self._prepare(points_BND, self.mean_D.to(points_BND.device))
        distances_BNK = torch.cdist(prepared_BND, self.centroids_KD.to(points_BND.device)).square()
        return distances_BNK.transpose(1, 2).unflatten(2, (self.config.size, self.config.size))

    def _prepare(self, points: Tensor, mean_D: Tensor) -> Tensor:
        points = points - mean_D
        return F.normalize(points, dim=-1) if self.config.spherical else points
