"""Foreground of a batch, by the configured method. Learns from a sample first where the method
needs to.
"""

import numpy as np
import torch
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.config import ForegroundConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, sampled_cells
from ssl_parts.parts.dense.hypercolumn import resize
from ssl_parts.parts.foreground.mining import keep_largest, mining_scores
from ssl_parts.parts.foreground.saliency import (
    SalientClusters,
    elbow_clusters,
    elected,
    nearest,
    salient_clusters,
)
from ssl_parts.parts.foreground.scores import (
    box_mask,
    component_scores,
    given_mask,
    smooth,
    spectral_scores,
    to_mask,
)
from ssl_parts.parts.foreground.votes import VoteModel, fit_votes

LEARNED = ("votes", "saliency")
CELLS = 96  # of each sampled image: bounds the memory of the sample
SALT = 1


class Foreground:
    """`mask(batch)` says which of the S*S points of each image are object: bool (B, N), or None
    for method none.
    """

    def __init__(self, config: ForegroundConfig, size: int) -> None:
        self.config, self.size = config, size
        self.method = "votes" if config.method == "auto" else config.method
        self.votes: VoteModel | None = None
        self.salient: SalientClusters | None = None

    def fit(self, source: FeatureSource, rows: np.ndarray | None = None) -> dict:
        """Learn from these images, or from a seeded sample; what was learned, as tensors for
        `load`.
        """
        if self.method not in LEARNED:
            return {}
        rows = source.sample_rows(self.config.sample, SALT) if rows is None else rows
        return (
            self._fit_votes(source, rows)
            if self.method == "votes"
            else self._fit_salient(source, rows)
        )

    def _fit_votes(self, source: FeatureSource, rows: np.ndarray) -> dict:
        points, cells = [], []
        for batch in source.batches(rows):
            points_BND = source.foreground_points(batch)
            cells_BM = sampled_cells(source.seeds(batch.indices), points_BND.shape[1], CELLS)
            points.append(_at(points_BND, cells_BM)[: batch.count].cpu())
            cells.append(cells_BM[: batch.count])
        seed = source.config.seed
        return fit_votes(
            torch.cat(points), torch.cat(cells), self.config.size, self.config.clusters, seed
        ).state()

    def _fit_salient(self, source: FeatureSource, rows: np.ndarray) -> dict:
        sampled = max(1, round(self.config.size**2 / self.config.every))
        points = []
        for batch in source.batches(rows):
            points_BND = source.foreground_points(batch)
            cells_BM = sampled_cells(source.seeds(batch.indices), points_BND.shape[1], sampled)
            points.append(_at(points_BND, cells_BM)[: batch.count].flatten(0, 1).cpu())
        centroids_CD = elbow_clusters(torch.cat(points), self.config, source.config.seed)
        votes_C = torch.zeros(len(centroids_CD))
        for batch in source.batches(rows):
            ids_BN = nearest(source.foreground_points(batch), centroids_CD.to(source.device))
            votes = salient_clusters(
                ids_BN, source.saliency(batch), len(centroids_CD), self.config.saliency
            )
            votes_C += votes[: batch.count].sum(0).cpu()
        return SalientClusters(
            centroids_CD, elected(votes_C / len(rows), self.config.agreement)
        ).state()

    def load(self, state: dict) -> None:
        if self.method == "votes":
            self.votes = VoteModel(**state)
        elif self.method == "saliency":
            self.salient = SalientClusters(**state)

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Raises PartDiscoveryError where the data set has no box or mask for an image and the
        method needs it.
        """
        if self.method == "none":
            return None
        if self.method in ("box", "mask"):
            return self._given(batch, source).to(batch.images.device)
        mask_BN = to_mask(self.scores(batch, source), self.size, self.config.least_share)
        return keep_largest(mask_BN) if self.method == "mining" else mask_BN

    def scores(self, batch: Batch, source: FeatureSource) -> Tensor:
        """Scores (B, S*S) on the decision grid, positive on the foreground."""
        if self.method == "votes":
            basis_Dd, mean_D = (
                x.to(source.device) for x in (self.votes.basis_Dd, self.votes.mean_D)
            )
            reduced_BNd = source.foreground_points(batch, basis_Dd) - mean_D @ basis_Dd
            scores_BN = self.votes.scores(reduced_BNd, self.config.position)
            return smooth(scores_BN, reduced_BNd, self.config.smoothing)
        if self.method == "attention":
            saliency_BN = source.saliency(batch)
            return smooth(
                saliency_BN - saliency_BN.mean(1, keepdim=True),
                saliency_BN[..., None],
                self.config.smoothing,
            )
        points_BND = source.foreground_points(batch)
        if self.method == "mining":
            map_BDhw = resize(batch.maps[source.foreground_stages[-1]].float(), self.config.size)
            scores_BN = mining_scores(map_BDhw, self.config.support)
        elif self.method == "saliency":
            scores_BN = self.salient.scores(points_BND)
        elif self.method == "spectral":
            scores_BN = spectral_scores(points_BND, self.config.affinity)
        else:
            scores_BN = component_scores(points_BND)
        return smooth(scores_BN, points_BND, self.config.smoothing)

    def background_costs(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Squared distance (B, S, S) to the nearest background cluster at parts.size, where the
        method has clusters.
        """
        if self.method != "saliency":
            return None
        points_BND = source.foreground_points(batch)
        costs_BN = self.salient.distances(points_BND)[
            ..., ~self.salient.front_C.to(points_BND.device)
        ].amin(-1)
        side = self.config.size
        return resize(costs_BN.view(-1, 1, side, side), self.size)[:, 0]

    def _given(self, batch: Batch, source: FeatureSource) -> Tensor:
        samples = [source.images.sample(int(i)) for i in batch.indices[: batch.count]]
        wanted = "box" if self.method == "box" else "part_mask"
        for sample in samples:
            if getattr(sample, wanted) is None:
                raise PartDiscoveryError(
                    f"parts.foreground.method={self.method} but {sample.path} has no {wanted.replace('_', ' ')}; "
                    "choose parts.foreground.method=auto"
                )
        if self.method == "box":
            mask_nN = box_mask([s.box for s in samples], source.images.size, self.size)
        else:
            mask_nN = given_mask([s.part_mask for s in samples], self.size)
        return mask_nN[torch.from_numpy(np.arange(len(batch.indices)).clip(max=batch.count - 1))]


def _at(points_BND: Tensor, cells_BM: Tensor) -> Tensor:
    """Points (B, M, D) of some cells of each image."""
    return points_BND[torch.arange(len(points_BND))[:, None], cells_BM.to(points_BND.device)]
