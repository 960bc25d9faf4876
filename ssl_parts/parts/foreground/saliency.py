"""Foreground by saliency votes over clusters: stage A of the co-segmentation of METHODS §1.3
(after Amir et al. 2021).

Shapes: P sampled descriptors, B images, N cells, D channels, C clusters.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.parts.clustering.kmeans import kmeans
from ssl_parts.parts.config import ForegroundConfig


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
        return {"centroids_CD": self.centroids_CD, "front_C": self.front_C}


def elbow_clusters(points_PD: Tensor, config: ForegroundConfig, seed: int) -> Tensor:
    """Centroids (C, D): one cluster more until it no longer brings the distortion under `elbow`
    times what it was.

    The last one tried is kept, as in the released code: one cluster too many does no harm to a
    vote.
    """
    before = None
    for clusters in range(1, min(config.most_clusters, len(points_PD)) + 1):
        found = kmeans(points_PD[None], clusters, seed, names=["the sample of descriptors"])
        distortion = float(found.inertia_B[0])
        centroids_CD = found.centroids_BKD[0, : int(found.k_B[0])]
        if clusters > 2 and distortion > config.elbow * before:
            break
        before = distortion
    return centroids_CD


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


def nearest(points_BND: Tensor, centroids_CD: Tensor) -> Tensor:
    """Index of the nearest centroid, long (B, N)."""
    return (centroids_CD.square().sum(1) - 2 * points_BND @ centroids_CD.T).argmin(-1)
