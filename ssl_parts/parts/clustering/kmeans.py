"""K-means of many images at once, with the contract that part discovery needs.

Ids are 0..k'-1 with k' <= k reported for each image, no cluster is empty, no point is silently
left out, and what an image gets depends on its points and its seed alone: not on its batch, the
number of processes or a resume.

Shapes: B images, N points, D channels, K clusters, T trials of k-means++. Points are `Points`:
wide or implied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.dense.points import Points, dense_points
from ssl_parts.parts.dense.sampling import uniforms

# Images that are clustered together. The size of a chunk is a function of the shapes only and the
# last chunk is padded, so that matrix products always see the same shapes: libraries choose other
# kernels, with other roundings, for others.
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**26}
CHUNK_IMAGES = {"cpu": 16, "cuda": 64}
# A point nearer to its centroid than this share of the mean squared norm is a copy of it, up to
# rounding in fp32.
SAME_POINT = 1e-6


@dataclass(frozen=True)
class Clusters:
    """What `kmeans` found.

    ids_BN: long, 0..k_B-1, and -1 for points that took no part. centroids_BKD: float32, rows from
    k_B on are zero. inertia_B: float64, weighted sum of squared distances. iterations_B: long.
    k_B: long, number of clusters in use.
    """

    ids_BN: Tensor
    centroids_BKD: Tensor
    inertia_B: Tensor
    iterations_B: Tensor
    k_B: Tensor


def kmeans(
    points: Tensor | Points,
    k: int,
    seed: int | Tensor = 0,
    iterations: int = 100,
    tolerance: float = 1e-4,
    weights_BN: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Clusters:
    """Cluster the points of each image by themselves, in float32.

    A greedy k-means++ start (Arthur & Vassilvitskii 2007), then Lloyd's iterations. An image stops
    when no id changes or when the summed squared shift of its centroids is at most `tolerance` times
    the mean variance of its channels (scikit-learn's rule). A cluster that runs empty takes the
    point farthest from its centroid; fewer than k come out only where fewer than k points differ.

    Args:
        points: float (B,N,D), any device; or `Points`: centroids are in its blocks' coordinates.
        k: clusters per image.
        seed: one for all images, or long (B,), one per image.
        weights_BN: bool (points that take part) or non-negative float weights.
        names: (B,) paths for messages.

    Raises:
        PartDiscoveryError: fewer than k points take part in an image, or a point is not finite.

    Example:
        >>> import torch
        >>> left, right = torch.zeros(2, 5, 3), torch.ones(2, 5, 3)
        >>> found = kmeans(torch.cat([left, right], dim=1), k=2)
        >>> found.ids_BN.shape, found.k_B.tolist(), found.inertia_B.tolist()
        (torch.Size([2, 10]), [2, 2], [0.0, 0.0])
    """
    if k < 1 or iterations < 1 or tolerance < 0:
        raise PartDiscoveryError(
            f"k-means needs k >= 1, iterations >= 1, tolerance >= 0: {k}, {iterations}, {tolerance}"
        )
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        points = dense_points(points.detach().float()) if isinstance(points, Tensor) else points
        weights_BN = _weights_of(points, weights_BN)
        _check(points, weights_BN, k, names)
        seeds_B = torch.as_tensor(seed, dtype=torch.long).cpu().expand(len(weights_BN))
        start = partial(_from_seeds, k=k, iterations=iterations, tolerance=tolerance)
        return Clusters(*_in_chunks(start, points, k, weights_BN, seeds_B))


def polish(
    points: Points, ids_BN: Tensor, k: int, iterations: int, weights_BN: Tensor | None = None
) -> Clusters:
    """Some more of Lloyd's iterations, from ids that were found otherwise: in fewer dimensions,
    for one.

    Args:
        ids_BN: long, below k; anything where the weight is 0. The others are those of `kmeans`.
    """
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        weights_BN = _weights_of(points, weights_BN)
        start = partial(_from_ids, k=k, iterations=iterations)
        return Clusters(*_in_chunks(start, points, k, weights_BN, ids_BN.clamp_min(0)))


def _weights_of(points: Points, weights_BN: Tensor | None) -> Tensor:
    """Float weights (B, N); one where none are given."""
    norms_BN = points.norms_BN
    return torch.ones_like(norms_BN) if weights_BN is None else weights_BN.to(norms_BN)


def _from_seeds(
    points: Points, weights_BN: Tensor, seeds_B: Tensor, k: int, iterations: int, tolerance: float
) -> tuple[Tensor, ...]:
    """The fields of `Clusters`, from a k-means++ start."""
    points, mean_B1D = points.centred(weights_BN)
    draws_BKT = uniforms(seeds_B, k * trials(k)).view(len(seeds_B), k, -1).to(points.device)
    centroids_BKD = _plus_plus(points, weights_BN, draws_BKT)
    return _finish(points, mean_B1D, weights_BN, centroids_BKD, iterations, tolerance)


def _from_ids(
    points: Points, weights_BN: Tensor, ids_BN: Tensor, k: int, iterations: int
) -> tuple[Tensor, ...]:
    """The fields of `Clusters`, from the means of ids."""
    points, mean_B1D = points.centred(weights_BN)
    nowhere_BKD = torch.zeros_like(mean_B1D).expand(-1, k, -1)
    centroids_BKD, _ = _means(points, _onehot(ids_BN, weights_BN, k), nowhere_BKD)
    return _finish(points, mean_B1D, weights_BN, centroids_BKD, iterations, 0.0)


def _in_chunks(
    cluster: Callable[..., tuple[Tensor, ...]],
    points: Points,
    k: int,
    weights_BN: Tensor,
    given: Tensor,
) -> list[Tensor]:
    """The fields of `Clusters`, computed on chunks of one size; the last one is filled up."""
    kind = points.device.type if points.device.type in CHUNK_VALUES else "cuda"
    size = max(1, min(CHUNK_IMAGES[kind], CHUNK_VALUES[kind] // max(1, points.values(k))))
    found = []
    for at in range(0, len(weights_BN), size):
        rows_B = torch.arange(at, at + size).clamp_max(len(weights_BN) - 1)
        chunk, weights = points.rows(rows_B.to(points.device)), weights_BN[rows_B]
        if not bool(weights.all()):
            chunk = chunk.without(weights == 0)
        found.append([x[: len(weights_BN) - at] for x in cluster(chunk, weights, given[rows_B])])
    return [torch.cat(parts) for parts in zip(*found)]


def _finish(
    points: Points,
    mean_B1D: Tensor,
    weights_BN: Tensor,
    centroids_BKD: Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[Tensor, ...]:
    """The fields of `Clusters` from these centroids on."""
    centroids_BKD, iterations_B = _lloyd(points, weights_BN, centroids_BKD, iterations, tolerance)
    ids_BN, centroids_BKD, near_BN = _last_assignment(points, weights_BN, centroids_BKD)
    ids_BN, centroids_BKD, k_B = _compact(ids_BN, weights_BN, centroids_BKD + mean_B1D)
    return ids_BN, centroids_BKD, (near_BN.double() * weights_BN).sum(1), iterations_B, k_B


def _check(points: Points, weights_BN: Tensor, k: int, names: Sequence[str] | None) -> None:
    def name(b: int) -> str:
        return names[b] if names is not None else f"image {b} of the batch"

    taking_part_BN = weights_BN > 0
    broken_B = (~torch.isfinite(points.norms_BN) & taking_part_BN).any(-1)
    if bool(broken_B.any()):
        b = int(broken_B.nonzero()[0])
        raise PartDiscoveryError(
            f"non-finite features in {name(b)}: the encoder's output has NaN or infinity there; "
            "check the encoder's weights and precision (discovery runs in float32)"
        )
    counts_B = taking_part_BN.sum(-1)
    if bool((counts_B < k).any()):
        b = int((counts_B < k).nonzero()[0])
        raise PartDiscoveryError(
            f"parts.k={k} but {name(b)} has {int(counts_B[b])} points to cluster; "
            "lower parts.k, raise parts.size or loosen parts.foreground"
        )


def trials(k: int) -> int:
    """Candidates that greedy k-means++ weighs against each other for each centroid (scikit-learn's
    number).
    """
    return 2 + int(torch.tensor(float(k)).log())


def _plus_plus(points: Points, weights_BN: Tensor, draws_BKT: Tensor) -> Tensor:
    """Greedy k-means++: each centroid is the best of T points drawn in proportion to their squared
    distance.
    """
    B, k, _ = draws_BKT.shape
    rows_B = torch.arange(B, device=points.device)
    centroids = [points.at(_draw(weights_BN, draws_BKT[:, 0, :1]))[:, 0]]
    closest_BN = _distances(points, centroids[0][:, None])[:, 0]
    for j in range(1, k):
        candidates_BTD = points.at(_draw(closest_BN * weights_BN, draws_BKT[:, j]))
        distances_BTN = torch.minimum(_distances(points, candidates_BTD), closest_BN[:, None])
        best_B = (distances_BTN @ weights_BN[..., None])[..., 0].argmin(-1)
        closest_BN = distances_BTN[rows_B, best_B]
        centroids.append(candidates_BTD[rows_B, best_B])
    return torch.stack(centroids, 1)


def _draw(mass_BN: Tensor, draws_BT: Tensor) -> Tensor:
    """Indices drawn in proportion to the mass, by inversion of its running sum in float64."""
    sums_BN = mass_BN.double().cumsum(-1)
    indices_BT = torch.searchsorted(sums_BN, draws_BT * sums_BN[:, -1:], right=True)
    return indices_BT.clamp_max(mass_BN.shape[1] - 1)


def _distances(points: Points, centroids_BTD: Tensor) -> Tensor:
    """Squared distances (B,T,N)."""
    return _up_to_norms(points, centroids_BTD).add_(points.norms_BN[:, None]).clamp_min_(0)


def _up_to_norms(points: Points, centroids_BTD: Tensor) -> Tensor:
    """||c||^2 - 2 x.c (B,T,N): least for the nearest centroid."""
    norms_BT1 = centroids_BTD.square().sum(-1, keepdim=True)
    return points.products(-2 * centroids_BTD).add_(norms_BT1)


def _assign(points: Points, centroids_BKD: Tensor) -> tuple[Tensor, Tensor]:
    near_BN, ids_BN = _distances(points, centroids_BKD).min(1)
    return ids_BN, near_BN


def _lloyd(
    points: Points, weights_BN: Tensor, centroids_BKD: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Iterate until every image of the chunk has stopped; an image that has stopped does not move
    any more.
    """
    B, _, D = centroids_BKD.shape
    variance_B = (points.norms_BN * weights_BN).sum(1) / weights_BN.sum(1) / D
    moving_B = torch.ones(B, dtype=torch.bool, device=points.device)
    iterations_B = torch.zeros(B, dtype=torch.long, device=points.device)
    for _ in range(iterations):
        moved_BKD, empty_BK = _means(
            points, _shares(points, weights_BN, centroids_BKD), centroids_BKD
        )
        if bool(empty_BK.any()):
            ids_BN = _refill(*_assign(points, centroids_BKD), points.norms_BN, weights_BN, empty_BK)
            moved_BKD, _ = _means(
                points, _onehot(ids_BN, weights_BN, centroids_BKD.shape[1]), centroids_BKD
            )
        shift_B = (moved_BKD - centroids_BKD).square().sum((1, 2))
        iterations_B += moving_B
        centroids_BKD = torch.where(moving_B[:, None, None], moved_BKD, centroids_BKD)
        # the same ids twice shift nothing at all
        moving_B = moving_B & (shift_B > tolerance * variance_B)
        if not bool(moving_B.any()):
            break
    return centroids_BKD, iterations_B


def _last_assignment(
    points: Points, weights_BN: Tensor, centroids_BKD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each point to its nearest centroid; where that empties a cluster, its centroid becomes the
    point it takes.
    """
    K = centroids_BKD.shape[1]
    ids_BN, near_BN = _assign(points, centroids_BKD)
    empty_BK = _onehot(ids_BN, weights_BN, K).sum(2) == 0
    if bool(empty_BK.any()):
        ids_BN = _refill(ids_BN, near_BN, points.norms_BN, weights_BN, empty_BK)
        moved_BKD, _ = _means(points, _onehot(ids_BN, weights_BN, K), centroids_BKD)
        centroids_BKD = torch.where(empty_BK.any(1)[:, None, None], moved_BKD, centroids_BKD)
        near_BN = _distances(points, centroids_BKD).gather(1, ids_BN[:, None])[:, 0]
    return ids_BN, centroids_BKD, near_BN


def _shares(points: Points, weights_BN: Tensor, centroids_BKD: Tensor) -> Tensor:
    """`_onehot` of the nearest centroids. By comparison with the minimum: several times faster
    than its index.
    """
    distances_BKN = _up_to_norms(points, centroids_BKD)
    least_B1N = distances_BKN.amin(1, keepdim=True)
    shares_BKN = torch.ge(least_B1N, distances_BKN, out=torch.empty_like(distances_BKN))
    # a point equally near to two centroids goes to the first
    if bool((shares_BKN.sum(1) != 1).any()):
        return _onehot(distances_BKN.argmin(1), weights_BN, centroids_BKD.shape[1])
    return shares_BKN.mul_(weights_BN[:, None])


def _onehot(ids_BN: Tensor, weights_BN: Tensor, k: int) -> Tensor:
    """(B,K,N): a point's weight in the row of its cluster, 0 in the others."""
    onehot_BKN = weights_BN.new_zeros(len(ids_BN), k, ids_BN.shape[1])
    return onehot_BKN.scatter_(1, ids_BN[:, None], weights_BN[:, None])


def _means(points: Points, shares_BKN: Tensor, centroids_BKD: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means of the clusters (an empty one keeps its centroid) and which are empty (B,K).

    As a matrix product: deterministic on a GPU, where scattered sums are not.
    """
    mass_BK1 = shares_BKN.sum(-1, keepdim=True)
    means_BKD = points.sums(shares_BKN) / mass_BK1.clamp_min(torch.finfo(torch.float32).tiny)
    return torch.where(mass_BK1 > 0, means_BKD, centroids_BKD), mass_BK1[..., 0] == 0


def _refill(
    ids_BN: Tensor, near_BN: Tensor, norms_BN: Tensor, weights_BN: Tensor, empty_BK: Tensor
) -> Tensor:
    """Give each empty cluster the point that is farthest from its own centroid, unless that point
    is a copy of it.
    """
    taking_part_BN = weights_BN > 0
    counts_BK = torch.zeros_like(empty_BK, dtype=torch.long).scatter_add_(
        1, ids_BN, taking_part_BN.long()
    )
    alone_BN = counts_BK.gather(1, ids_BN) <= 1
    far_BN = torch.where(taking_part_BN & ~alone_BN, near_BN, -1.0)
    floor_B = SAME_POINT * (norms_BN * weights_BN).sum(1) / weights_BN.sum(1)
    ids_BN = ids_BN.clone()
    for b, cluster in empty_BK.nonzero().tolist():
        farthest = int(far_BN[b].argmax())
        if far_BN[b, farthest] > floor_B[b]:
            ids_BN[b, farthest], far_BN[b, farthest] = cluster, -1.0
    return ids_BN


def _compact(
    ids_BN: Tensor, weights_BN: Tensor, centroids_BKD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Number the clusters that have points 0..k'-1 in their old order; -1 for points that took no
    part.
    """
    k = centroids_BKD.shape[1]
    taking_part_BN = weights_BN > 0
    used_BK = _onehot(ids_BN, weights_BN, k).sum(2) > 0
    new_BK = used_BK.long().cumsum(1) - 1
    ids_BN = torch.where(taking_part_BN, new_BK.gather(1, ids_BN), -1)
    order_BK = (~used_BK).long().argsort(dim=1, stable=True)
    centroids_BKD = centroids_BKD.gather(1, order_BK[..., None].expand_as(centroids_BKD))
    kept_BK = torch.arange(k, device=ids_BN.device) < used_BK.sum(1, keepdim=True)
    return ids_BN, torch.where(kept_BK[..., None], centroids_BKD, 0), used_BK.sum(1)
