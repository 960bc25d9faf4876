"""Method dataset: one clustering for all images, so that an id means the same part everywhere.

Shapes: B images, N points, P sampled points, D channels, K clusters.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.clustering.kmeans import kmeans, uniforms
from ssl_parts.parts.config import PartsConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, append_place
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.match import match_ids

SALT = 3
SPHERICAL_ROUNDS = 50


class DatasetClustering:
    """Centroids from sampled foreground points; every point of every image goes to the nearest."""

    scope = "dataset"

    def __init__(self, config: PartsConfig) -> None:
        self.config = config
        self.mean_D: Tensor | None = None
        self.centroids_KD: Tensor | None = None

    def fit(
        self, source: FeatureSource, foreground: Foreground, rows: np.ndarray | None = None
    ) -> dict:
        """Centroids from these images, or from a seeded sample; of each, sampled foreground
        points.
        """
        config = self.config
        rows = source.sample_rows(config.dataset.sample_images, SALT) if rows is None else rows
        points = []
        for batch in source.batches(rows):
            points_BND, mask_BN = source.appearance(batch), foreground.mask(batch, source)
            draws_BN = uniforms(source.seeds(batch.indices), points_BND.shape[1]).to(
                points_BND.device
            )
            for b in range(batch.count):
                draw_N = (
                    draws_BN[b] if mask_BN is None else draws_BN[b].masked_fill(~mask_BN[b], 2.0)
                )
                available = len(draw_N) if mask_BN is None else int(mask_BN[b].sum())
                chosen_P = draw_N.argsort(stable=True)[
                    : min(config.dataset.sample_points, available)
                ]
                points.append(append_place_of(points_BND[b], chosen_P, source.place_weight).cpu())
        points_PD = torch.cat(points)
        mean_D = points_PD.mean(0) if config.dataset.centre else torch.zeros(points_PD.shape[1])
        centroids_KD = fit_centroids(self._prepare(points_PD, mean_D), config)
        return {"mean_D": mean_D, "centroids_KD": centroids_KD}

    def load(self, state: dict) -> None:
        self.mean_D, self.centroids_KD = state["mean_D"], state["centroids_KD"]

    def renumber(self, state: dict, overlaps: np.ndarray) -> None:
        """Put the centroids in the order in which ids agree best with an earlier round's: overlaps
        (K1, K2 or more).

        Where there are fewer centroids than earlier parts, their order agrees, not their numbers.
        """
        numbers_K = match_ids(overlaps[:, : len(state["centroids_KD"])])
        state["centroids_KD"] = state["centroids_KD"][torch.from_numpy(numbers_K.argsort())]

    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long: 0..K-1 with the same meaning in all images, and -1 outside the
        mask.
        """
        ids_BN = self._up_to_norms(batch, source).argmin(-1)
        return ids_BN if mask_BN is None else torch.where(mask_BN, ids_BN, -1)

    def _up_to_norms(self, batch: Batch, source: FeatureSource) -> Tensor:
        """||c||^2 - 2 c.(x - mean) (B, N, K): least at the nearest centroid, whatever the length of x - mean.

        Only the products c.x are needed, and those come from the small maps.
        """
        centroids_KD = self.centroids_KD.to(source.device)
        wide = centroids_KD.shape[1] - (2 if source.place_weight else 0)
        products_BNK = source.appearance(batch, centroids_KD[:, :wide].T)
        if source.place_weight:
            place_BN2 = append_place(products_BNK[..., :0], source.place_weight)
            products_BNK = products_BNK + place_BN2 @ centroids_KD[:, wide:].T
        offsets_K = centroids_KD.square().sum(1) + 2 * centroids_KD @ self.mean_D.to(source.device)
        return offsets_K - 2 * products_BNK

    def costs(self, batch: Batch, source: FeatureSource) -> Tensor:
        """Squared distance (B, K, S, S) of each point to each centroid, in the space that was
        clustered.
        """
        points_BND = append_place(source.appearance(batch), source.place_weight)
        centroids_KD = self.centroids_KD.to(source.device)
        distances_BNK = torch.cdist(
            self._prepare(points_BND, self.mean_D.to(source.device)), centroids_KD
        ).square()
        return distances_BNK.transpose(1, 2).unflatten(2, (self.config.size, self.config.size))

    def _prepare(self, points: Tensor, mean_D: Tensor) -> Tensor:
        points = points - mean_D
        return F.normalize(points, dim=-1) if self.config.dataset.spherical else points


def append_place_of(points_ND: Tensor, chosen_P: Tensor, weight: float) -> Tensor:
    """The chosen points of one image, with their place as `append_place` would add it."""
    return append_place(points_ND[None], weight)[0, chosen_P]


def nearest(points: Tensor, centroids_KD: Tensor) -> Tensor:
    """Index of the nearest centroid for points of any leading shape."""
    return (centroids_KD.square().sum(1) - 2 * points @ centroids_KD.T).argmin(-1)


def fit_centroids(points_PD: Tensor, config: PartsConfig) -> Tensor:
    """Centroids (K, D) of all the points given; K is parts.k, or the elbow at or below it.

    Raises:
        PartDiscoveryError: fewer points than clusters, or points that are not finite.
    """
    if config.dataset.elbow == 0:
        return _fit_best(points_PD, config.k, config)[0]
    before = float((points_PD - points_PD.mean(0)).square().sum())
    centroids_KD = points_PD.mean(0, keepdim=True)
    for k in range(2, config.k + 1):
        candidate_KD, inertia = _fit_best(points_PD, k, config)
        if inertia > (1 - config.dataset.elbow) * before:
            break
        centroids_KD, before = candidate_KD, inertia
    return centroids_KD


def _fit_best(points_PD: Tensor, k: int, config: PartsConfig) -> tuple[Tensor, float]:
    fits = [
        _fit_once(points_PD, k, config, config.seed + r) for r in range(config.dataset.restarts)
    ]
    return min(fits, key=lambda fit: fit[1])


def _fit_once(points_PD: Tensor, k: int, config: PartsConfig, seed: int) -> tuple[Tensor, float]:
    if config.dataset.backend == "faiss":
        return _fit_faiss(points_PD, k, config, seed)
    found = kmeans(
        points_PD[None],
        k,
        seed,
        config.iterations,
        config.tolerance,
        names=["the sample of the data set"],
    )
    centroids_KD = found.centroids_BKD[0, : int(found.k_B[0])]
    if config.dataset.spherical:
        centroids_KD = _spherical(points_PD, centroids_KD)
    return centroids_KD, _inertia(points_PD, centroids_KD)


def _spherical(points_PD: Tensor, centroids_KD: Tensor) -> Tensor:
    """Lloyd's iterations with centroids of unit length, from a Euclidean solution; points have
    unit length.
    """
    centroids_KD, before_P = F.normalize(centroids_KD, dim=1), None
    for _ in range(SPHERICAL_ROUNDS):
        ids_P = nearest(points_PD, centroids_KD)
        if before_P is not None and torch.equal(ids_P, before_P):
            break
        sums_KD = F.one_hot(ids_P, len(centroids_KD)).float().T @ points_PD
        used_K1 = (sums_KD.norm(dim=1, keepdim=True) > 0).expand_as(sums_KD)
        centroids_KD, before_P = (
            torch.where(used_K1, F.normalize(sums_KD, dim=1), centroids_KD),
            ids_P,
        )
    return centroids_KD


def _fit_faiss(points_PD: Tensor, k: int, config: PartsConfig, seed: int) -> tuple[Tensor, float]:
    """faiss, with its silent subsampling and its complaints about few points switched off."""
    import faiss

    if len(points_PD) < k or not bool(torch.isfinite(points_PD.sum())):
        raise PartDiscoveryError(
            f"parts.k={k} but the sample has {len(points_PD)} points, or some are not finite"
        )
    clustering = faiss.Kmeans(
        points_PD.shape[1],
        k,
        niter=config.iterations,
        seed=seed + 1,
        spherical=config.dataset.spherical,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points_PD),
        gpu=faiss.get_num_gpus() > 0,
    )
    clustering.train(points_PD.numpy())
    centroids_KD = torch.from_numpy(clustering.centroids.copy())
    return centroids_KD, _inertia(points_PD, centroids_KD)


def _inertia(points_PD: Tensor, centroids_KD: Tensor) -> float:
    ids_P = nearest(points_PD, centroids_KD)
    return float((points_PD - centroids_KD[ids_P]).square().sum(dtype=torch.float64))
