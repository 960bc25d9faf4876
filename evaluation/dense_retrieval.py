"""Two looks at dense features that train nothing: what the nearest labelled cells say, and what
clusters are made of.

Retrieval: a cell of a test image takes the labels of its nearest cells in a memory of training
images (Balazevic et al. 2023, "Towards in-context scene understanding"). Over-clustering: many
k-means clusters of training cells, each named after the part that fills most of it (Ziegler and
Asano 2022, "Leopart"; there the test masks name them, here training masks do). Metric of both:
data-set-level IoU.

Shapes: n images, g grid side, N cells, D channels, K ids with the background, Q clusters, M cells
of the memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.features import iterate_features, on_grid
from evaluation.masks import cell_shares, read_masks
from evaluation.metrics import iou_of_counts, mean_iou
from evaluation.part_segmentation import labelled_points, pixel_counts
from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError, DataError
from ssl_parts.parts.clustering.kmeans import kmeans


@dataclass(frozen=True)
class DenseLook:
    """IoU as fractions. iou_per_class: background first. precision: share of test cells on a part
    whose nearest cell in the memory shows the same part, mean over parts (retrieval only)."""

    miou: float
    miou_with_background: float
    iou_per_class: tuple[float, ...]
    precision: float | None = None


def dense_retrieval(
    encoder: Encoder,
    train_bank: ImageBank,
    test_bank: ImageBank,
    images: np.ndarray,
    *,
    stages: Sequence[str],
    grid: int = 16,
    k: int = 30,
    temperature: float = 0.05,
    memory: int = 50_000,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> DenseLook:
    """Label transfer from the nearest cells by cosine, weighted by softmax(cosine / temperature)
    over the k nearest.

    Args:
        images: positions in the training bank whose cells make the memory.
        stages: maps of a cell's feature, each L2-normalised, concatenated, on a grid of `grid`
            cells a side.
        memory: cells kept, a seeded choice where there are more.

    Raises:
        ConfigError: k or the temperature out of range. DataError: parts that overlap, features
            that are not finite.
    """
    if not 1 <= k <= memory or not temperature > 0:
        raise ConfigError(
            f"retrieval: k={k} must lie in 1..memory={memory}, temperature={temperature} above 0"
        )
    points_ND, shares_NK = _training_cells(
        encoder, train_bank, images, stages, grid, memory, seed, batch, device
    )
    keys_MD, k = _unit(points_ND, encoder, stages), min(k, len(points_ND))
    nearest_right = np.zeros((2, shares_NK.shape[1]), dtype=np.int64)

    def predict(points_BND: Tensor, masks: Tensor) -> Tensor:
        query = _unit(points_BND.flatten(0, 1), encoder, stages)
        scores, found = zip(*(_nearest(part, keys_MD, k) for part in query.split(4096)))
        cosine, near = torch.cat(scores), torch.cat(found)
        true = _majority(masks, shares_NK.shape[1], grid)
        seen = shares_NK.argmax(1)[near[:, 0]].cpu().numpy()
        nearest_right[0] += np.bincount(true[seen == true], minlength=shares_NK.shape[1])
        nearest_right[1] += np.bincount(true, minlength=shares_NK.shape[1])
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        return torch.einsum("nk,nkc->nc", weight / weight.sum(1, keepdim=True), shares_NK[near])

    counts = _over_test(encoder, test_bank, predict, stages, grid, batch, device)
    right, all_cells = nearest_right[:, 1:]
    precision = (
        float((right[all_cells > 0] / all_cells[all_cells > 0]).mean())
        if all_cells.any()
        else float("nan")
    )
    return _look(counts, precision)


def over_clustering(
    encoder: Encoder,
    train_bank: ImageBank,
    test_bank: ImageBank,
    images: np.ndarray,
    clusters: int,
    *,
    stages: Sequence[str],
    grid: int = 16,
    memory: int = 50_000,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> DenseLook:
    """K-means on training cells, each cluster named after the id with the largest share of it,
    applied to test cells.

    Args: as `dense_retrieval`; clusters: Q.

    Raises:
        ConfigError: more clusters than cells. DataError: as `dense_retrieval`.
    """
    points_ND, shares_NK = _training_cells(
        encoder, train_bank, images, stages, grid, memory, seed, batch, device
    )
    if not 2 <= clusters <= len(points_ND):
        raise ConfigError(
            f"overcluster: clusters={clusters} must lie between 2 and the {len(points_ND)} cells"
        )
    units = _unit(points_ND, encoder, stages)
    found = kmeans(units[None], clusters, seed=seed)
    ids_N, centroids_QD = found.ids_BN[0], found.centroids_BKD[0][: int(found.k_B[0])]
    mass_QK = torch.zeros(len(centroids_QD), shares_NK.shape[1], device=units.device).index_add_(
        0, ids_N, shares_NK
    )
    names_QK = F.one_hot(mass_QK.argmax(1), shares_NK.shape[1]).float()

    def predict(points_BND: Tensor, masks: Tensor) -> Tensor:
        query = _unit(points_BND.flatten(0, 1), encoder, stages)
        return names_QK[torch.cdist(query, centroids_QD).argmin(1)]

    return _look(_over_test(encoder, test_bank, predict, stages, grid, batch, device))


def _training_cells(
    encoder: Encoder,
    bank: ImageBank,
    images: np.ndarray,
    stages: Sequence[str],
    grid: int,
    memory: int,
    seed: int,
    batch: int,
    device: str | torch.device,
) -> tuple[Tensor, Tensor]:
    """Features (M, D) and id shares (M, K) of a seeded choice of cells of these images."""
    points_nND, shares_nNK = labelled_points(encoder, bank, images, stages, grid, batch, device)
    if shares_nNK.shape[2] == len(bank.dataset.part_names):
        raise DataError(
            f"{bank.dataset.name} has overlapping parts; retrieval and over-clustering need one id a pixel"
        )
    points_ND, shares_NK = points_nND.flatten(0, 1), shares_nNK.flatten(0, 1)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(points_ND))[:memory])
    return points_ND[chosen], shares_NK[chosen]


def _unit(points_ND: Tensor, encoder: Encoder, stages: Sequence[str]) -> Tensor:
    """Each stage's part to unit length, then divided so that the whole has length 1."""
    parts = points_ND.split([encoder.dims[stage] for stage in stages], dim=1)
    return torch.cat([F.normalize(p, dim=1) for p in parts], 1) / len(stages) ** 0.5


def _nearest(query_ND: Tensor, keys_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return (query_ND @ keys_MD.T).topk(k, dim=1)


def _majority(masks: Tensor, classes: int, grid: int) -> np.ndarray:
    return cell_shares(masks, classes, grid).argmax(1).flatten().numpy()


def _over_test(
    encoder: Encoder,
    bank: ImageBank,
    predict: Callable[[Tensor, Tensor], Tensor],
    stages: Sequence[str],
    grid: int,
    batch: int,
    device: str | torch.device,
) -> np.ndarray:
    """Counts (2, K) over all test images; `predict` gives (B*N, K) scores from points (B, N, D)."""
    total: np.ndarray | int = 0
    for chunk, features in iterate_features(encoder, bank, stages, None, batch, device):
        points_BND = on_grid(features.maps, stages, grid).flatten(2).transpose(1, 2)
        masks = read_masks(bank, chunk)
        scores = predict(points_BND, masks)
        total = total + pixel_counts(
            scores.view(len(chunk), grid, grid, -1).permute(0, 3, 1, 2), masks
        )
    return total


def _look(counts: np.ndarray, precision: float | None = None) -> DenseLook:
    iou = iou_of_counts(counts)
    return DenseLook(
        mean_iou(iou, background=False),
        mean_iou(iou, background=True),
        tuple(iou.tolist()),
        precision,
    )
