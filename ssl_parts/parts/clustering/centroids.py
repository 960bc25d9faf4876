"""Centroids of one clustering over a sample of a whole data set, by torch or faiss.

Shapes: P sampled points, D channels, K clusters.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.clustering.config import CentroidsConfig
from ssl_parts.parts.clustering.kmeans import kmeans

SPHERICAL_ROUNDS = 50


def fit_centroids(points_PD: Tensor, k: int, seed: int, config: CentroidsConfig) -> Tensor:
    """Centroids (K, D) of all the points given; K is k, or the elbow at or below it.

    Args:
        points_PD: float32 on the CPU, of unit length where the clustering is spherical.

    Raises:
        PartDiscoveryError: fewer points than clusters, or points that are not finite.
    """
    if config.elbow == 0:
        return _fit_best(points_PD, k, seed, config)[0]
    before = float((points_PD - points_PD.mean(0)).square().sum())
    centroids_KD = points_PD.mean(0, keepdim=True)
    for count in range(2, k + 1):
        candidate_KD, inertia = _fit_best(points_PD, count, seed, config)
        if inertia > (1 - config.elbow) * before:
            break
        centroids_KD, before = candidate_KD, inertia
    return centroids_KD


def nearest(points: Tensor, centroids_KD: Tensor) -> Tensor:
    """Index of the nearest centroid, long, for points of any leading shape (..., D)."""
    return (centroids_KD.square().sum(1) - 2 * points @ centroids_KD.T).argmin(-1)


def _fit_best(
    points_PD: Tensor, k: int, seed: int, config: CentroidsConfig
) -> tuple[Tensor, float]:
    once = _fit_faiss if config.backend == "faiss" else _fit_torch
    fits = [once(points_PD, k, seed + r, config) for r in range(config.restarts)]
    return min(fits, key=lambda found: found[1])


def _fit_torch(
    points_PD: Tensor, k: int, seed: int, config: CentroidsConfig
) -> tuple[Tensor, float]:
    sample = ["the sample of the data set"]
    found = kmeans(points_PD[None], k, seed, config.iterations, config.tolerance, names=sample)
    centroids_KD = found.centroids_BKD[0, : int(found.k_B[0])]
    if config.spherical:
        centroids_KD = _spherical(points_PD, centroids_KD)
    return centroids_KD, _inertia(points_PD, centroids_KD)


def _spherical(points_PD: Tensor, centroids_KD: Tensor) -> Tensor:
    """Lloyd's iterations with centroids of unit length, from a Euclidean solution; points have unit
    length.
    """
    centroids_KD, before_P = F.normalize(centroids_KD, dim=1), None
    for _ in range(SPHERICAL_ROUNDS):
        ids_P = nearest(points_PD, centroids_KD)
        if before_P is not None and torch.equal(ids_P, before_P):
            break
        sums_KD = F.one_hot(ids_P, len(centroids_KD)).float().T @ points_PD
        used_K1 = (sums_KD.norm(dim=1, keepdim=True) > 0).expand_as(sums_KD)
        moved_KD = torch.where(used_K1, F.normalize(sums_KD, dim=1), centroids_KD)
        centroids_KD, before_P = moved_KD, ids_P
    return centroids_KD


def _fit_faiss(
    points_PD: Tensor, k: int, seed: int, config: CentroidsConfig
) -> tuple[Tensor, float]:
    """faiss, on its GPUs where it has some, without its silent subsampling and its complaints about
    few points.
    """
    import faiss  # imported where it is used: it takes threads of its own

    if len(points_PD) < k or not bool(torch.isfinite(points_PD.sum())):
        raise PartDiscoveryError(
            f"parts.k={k} but the sample of the data set has {len(points_PD)} points, or some are "
            "not finite"
        )
    clustering = faiss.Kmeans(
        points_PD.shape[1],
        k,
        niter=config.iterations,
        seed=seed + 1,
        spherical=config.spherical,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points_PD),
        gpu=faiss.get_num_gpus() > 0,
    )
    clustering.train(points_PD.numpy())
    centroids_KD = torch.from_numpy(np.array(clustering.centroids))
    return centroids_KD, _inertia(points_PD, centroids_KD)


def _inertia(points_PD: Tensor, centroids_KD: Tensor) -> float:
    ids_P = nearest(points_PD, centroids_KD)
    return float((points_PD - centroids_KD[ids_P]).square().sum(dtype=torch.float64))
