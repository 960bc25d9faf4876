"""Foreground by saliency votes over clusters, the first stage of co-segmentation (PARTICLE, arXiv
2309.13822, section 3, after Amir et al., arXiv 2112.05814; docs/method.md, section 1.3).

Shapes: P sampled descriptors, B images, N cells, D channels, C clusters, A attention heads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.parts.clustering.centroids import nearest
from ssl_parts.parts.clustering.kmeans import kmeans
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.facets import has_facets
from ssl_parts.parts.dense.features import Batch, FeatureSource
from ssl_parts.parts.dense.hypercolumn import resize
from ssl_parts.parts.dense.sampling import sample_cells, take_cells
from ssl_parts.parts.dense.stages import ATTENTION
from ssl_parts.parts.foreground.config import SaliencyConfig
from ssl_parts.parts.foreground.foreground import SALT, ScoredForeground


@dataclass(frozen=True)
class SalientClusters:
    """Clusters of descriptors and which of them are foreground."""

    centroids_CD: Tensor
    front_C: Tensor  # bool

    def distances(self, points_BND: Tensor) -> Tensor:
        """Squared distances (B, N, C)."""
        return torch.cdist(points_BND, self.centroids_CD.to(points_BND)).square()

    def scores(self, points_BND: Tensor) -> Tensor:
        """Squared distance to the nearest background cluster less that to the nearest foreground
        cluster (B, N).
        """
        distances_BNC, front_C = self.distances(points_BND), self.front_C.to(points_BND.device)
        return distances_BNC[..., ~front_C].amin(-1) - distances_BNC[..., front_C].amin(-1)

    def state(self) -> dict[str, Tensor]:
        """The fields by name."""
        return {"centroids_CD": self.centroids_CD, "front_C": self.front_C}


class SaliencyForeground(ScoredForeground):
    """Clusters that most images find salient.

    Salient is what the CLS token of a ViT attends to; for other networks, where the vectors of the
    last foreground map are long.
    """

    def __init__(
        self, config: SaliencyConfig, encoder: Encoder | None, dense: DenseConfig, size: int
    ) -> None:
        super().__init__(config, encoder, dense, size)
        self.config, self.last = config, self.stages[-1]
        self.stages = (ATTENTION, *self.stages) if has_facets(encoder) else self.stages
        self.clusters: SalientClusters | None = None

    def fit(self, source: FeatureSource, rows: np.ndarray | None = None) -> dict[str, Any]:
        """Clusters of these images, or of a seeded sample, and which are elected."""
        config = self.config
        rows = source.sample_rows(config.sample, SALT) if rows is None else rows
        sampled = max(1, round(config.size**2 / config.every))
        points = []
        for batch in source.batches(rows):
            points_BND = self.grid.vectors(batch)
            cells_BM = sample_cells(source.seeds(batch.indices), points_BND.shape[1], sampled)
            points.append(take_cells(points_BND, cells_BM)[: batch.count].flatten(0, 1).cpu())
        centroids_CD = elbow_clusters(torch.cat(points), config, source.seed)
        votes_C = torch.zeros(len(centroids_CD))
        for batch in source.batches(rows):
            ids_BN = nearest(self.grid.vectors(batch), centroids_CD.to(source.device))
            votes_BC = salient_clusters(
                ids_BN, self.saliency(batch), len(centroids_CD), config.threshold
            )
            votes_C += votes_BC[: batch.count].sum(0).cpu()
        front_C = elected(votes_C / len(rows), config.agreement)
        return SalientClusters(centroids_CD, front_C).state()

    def load(self, state: dict[str, Any]) -> None:
        """Take over the fields of `SalientClusters`."""
        self.clusters = SalientClusters(**state)

    def scores(self, batch: Batch) -> Tensor:
        """How much nearer the object's clusters are than the background's (B, G*G), smoothed."""
        points_BND = self.grid.vectors(batch)
        return self.smoothed(self._loaded().scores(points_BND), points_BND)

    def background_costs(self, batch: Batch) -> Tensor | None:
        """Squared distance (B, S, S) to the nearest background cluster."""
        points_BND = self.grid.vectors(batch)
        behind_C = ~self._loaded().front_C.to(points_BND.device)
        costs_BN = self._loaded().distances(points_BND)[..., behind_C].amin(-1)
        side = self.config.size
        return resize(costs_BN.view(-1, 1, side, side), self.size)[:, 0]

    def saliency(self, batch: Batch) -> Tensor:
        """How much stands out (B, G*G), 0..1 in each image.

        Raises:
            ConfigError: heads that the encoder does not have.
        """
        if ATTENTION in batch.maps:
            map_B1hw = self._attention(batch.maps[ATTENTION]).float()
        else:
            map_B1hw = batch.maps[self.last].float().norm(dim=1, keepdim=True)
        values_BN = resize(map_B1hw, self.config.size).flatten(1)
        low_B1, high_B1 = values_BN.amin(1, keepdim=True), values_BN.amax(1, keepdim=True)
        return (values_BN - low_B1) / (high_B1 - low_B1).clamp_min(1e-12)

    def _attention(self, attention_BAhw: Tensor) -> Tensor:
        """Mean (B, 1, h, w) over the configured heads."""
        count = attention_BAhw.shape[1]
        heads = self.config.heads or list(range(count))
        if max(heads) >= count:
            raise ConfigError(
                f"parts.foreground.heads={heads}: this encoder has heads 0..{count - 1}; [] takes all"
            )
        return attention_BAhw[:, heads].mean(1, keepdim=True)

    def _loaded(self) -> SalientClusters:
        assert self.clusters is not None, "scores before fit or load"
        return self.clusters


def elbow_clusters(points_PD: Tensor, config: SaliencyConfig, seed: int) -> Tensor:
    """Centroids (C, D): one cluster more until it no longer brings the distortion under `elbow`
    times what it was.

    The last one tried is kept, as in the released code: one cluster too many does no harm to a
    vote.
    """
    centroids_CD, before = _clustered(points_PD, 1, seed)
    for clusters in range(2, min(config.most_clusters, len(points_PD)) + 1):
        centroids_CD, distortion = _clustered(points_PD, clusters, seed)
        if clusters > 2 and distortion > config.elbow * before:
            break
        before = distortion
    return centroids_CD


def _clustered(points_PD: Tensor, clusters: int, seed: int) -> tuple[Tensor, float]:
    """Centroids (C, D), C <= clusters, and their distortion."""
    found = kmeans(points_PD[None], clusters, seed, names=["the sample of descriptors"])
    return found.centroids_BKD[0, : int(found.k_B[0])], float(found.inertia_B[0])


def salient_clusters(
    ids_BN: Tensor, saliency_BN: Tensor, clusters: int, threshold: float
) -> Tensor:
    """Which clusters each image finds salient: float 0/1 (B, C).

    A cluster is salient in an image when its cells' mean saliency there exceeds the threshold (0:
    the image's mean).
    """
    onehot_BNC = F.one_hot(ids_BN, clusters).float()
    sizes_BC = onehot_BNC.sum(1)
    mean_BC = (onehot_BNC * saliency_BN[..., None]).sum(1) / sizes_BC.clamp_min(1)
    limit = saliency_BN.mean(1, keepdim=True) if threshold == 0 else threshold
    return ((mean_BC > limit) & (sizes_BC > 0)).float()


def elected(shares_C: Tensor, agreement: float) -> Tensor:
    """Clusters with enough votes, bool (C,): at least the one with most, and never all of them."""
    front_C = shares_C >= agreement
    front_C[shares_C.argmax()] = True
    if bool(front_C.all()):
        front_C[shares_C.argmin()] = False
    return front_C
