"""Foreground of a batch, by the configured method. Learns from a sample first where the method needs to."""

import numpy as np
import torch
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.config import ForegroundConfig
from ssl_parts.parts.features import Batch, FeatureSource, sampled_cells
from ssl_parts.parts.foreground import (
    box_mask,
    component_scores,
    given_mask,
    smooth,
    spectral_scores,
    to_mask,
)
from ssl_parts.parts.votes import VoteModel, fit_votes

CELLS = 96  # of each sampled image: bounds the memory of the sample
SALT = 1


class Foreground:
    """`mask(batch)` says which of the S*S points of each image are object: bool (B, N), or None for method none."""

    def __init__(self, config: ForegroundConfig, size: int) -> None:
        self.config, self.size = config, size
        self.method = "votes" if config.method == "auto" else config.method
        self.votes: VoteModel | None = None

    def fit(self, source: FeatureSource) -> dict:
        """Learn from a seeded sample of images; what was learned, as tensors for `load`."""
        if self.method != "votes":
            return {}
        points, cells = [], []
        for batch in source.batches(source.sample_rows(self.config.sample, SALT)):
            points_BND = source.foreground_points(batch)
            cells_BM = sampled_cells(source.seeds(batch.indices), points_BND.shape[1], CELLS)
            rows_B1 = torch.arange(len(points_BND))[:, None]
            points.append(points_BND[rows_B1, cells_BM.to(points_BND.device)][: batch.count].cpu())
            cells.append(cells_BM[: batch.count])
        seed = source.config.seed
        votes = fit_votes(torch.cat(points), torch.cat(cells), self.config.size, self.config.clusters, seed)
        return votes.state()

    def load(self, state: dict) -> None:
        if self.method == "votes":
            self.votes = VoteModel(**state)

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Raises PartDiscoveryError where the data set has no box or mask for an image and the method needs it."""
        if self.method == "none":
            return None
        if self.method in ("box", "mask"):
            return self._given(batch, source).to(batch.images.device)
        return to_mask(self.scores(batch, source), self.size, self.config.least_share)

    def scores(self, batch: Batch, source: FeatureSource) -> Tensor:
        """Scores (B, S*S) on the decision grid, positive on the foreground."""
        if self.method == "votes":
            basis_Dd, mean_D = (x.to(source.device) for x in (self.votes.basis_Dd, self.votes.mean_D))
            reduced_BNd = source.foreground_points(batch, basis_Dd) - mean_D @ basis_Dd
            scores_BN = self.votes.scores(reduced_BNd, self.config.position)
            return smooth(scores_BN, reduced_BNd, self.config.smoothing)
        points_BND = source.foreground_points(batch)
        if self.method == "spectral":
            scores_BN = spectral_scores(points_BND, self.config.affinity)
        else:
            scores_BN = component_scores(points_BND)
        return smooth(scores_BN, points_BND, self.config.smoothing)

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
