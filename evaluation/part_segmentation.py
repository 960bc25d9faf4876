"""Few-shot part segmentation from frozen dense features with a linear decoder.

A few labelled images, one softmax regression shared by all positions (a 1x1 convolution) fitted to
its optimum, so the figure has no step size, no number of epochs and no initialisation in it.
Metric: data-set-level IoU (METHODS §1.6). Sets whose parts overlap get one sigmoid a part instead
of the softmax; a part is found where its logit is above 0.

Shapes: n shots, D channels, g grid side, K ids including the background, R draws, B images, H = W
side of the masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.features import check_finite, iterate_features, on_grid
from evaluation.logistic import fit_logistic
from evaluation.masks import cell_shares, read_masks
from evaluation.metrics import id_counts, iou_of_counts, mean_iou, plane_counts
from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


@dataclass(frozen=True)
class SegmentationResult:
    """Data-set-level IoU as fractions, mean over draws of the labelled images.

    miou: mean over parts; miou_with_background: mean over parts and background (the paper's
    figure). sd: over draws, of miou. draws, draws_with_background: of each draw. iou_per_class:
    background first, NaN for a part that never occurs.
    """

    miou: float
    miou_with_background: float
    sd: float
    draws: tuple[float, ...]
    draws_with_background: tuple[float, ...]
    iou_per_class: tuple[float, ...]
    names: tuple[str, ...]
    shots: int
    n_test: int
    stages: tuple[str, ...]
    grid: int
    converged: bool


@dataclass(frozen=True)
class LinearDecoder:
    """Scores of each position from its features: weight (K, D), bias (K,)."""

    weight_KD: Tensor
    bias_K: Tensor
    converged: bool


def few_shot_part_segmentation(
    encoder: Encoder,
    train_bank: ImageBank,
    test_bank: ImageBank,
    shots: int | None,
    seed: int = 0,
    *,
    draws: int = 3,
    stages: Sequence[str] | None = None,
    grid: int = 16,
    weight_decay: float = 0.01,
    balance: float = 0.5,
    test_indices: np.ndarray | None = None,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> SegmentationResult:
    """Train a linear decoder on a few labelled images, test on all of `test_bank`.

    Args:
        shots: labelled training images; None for all of them (then there is one draw).
        seed: of the draws: draw r depends on (seed, r) and the number of training images alone.
        draws: independent choices of the labelled images, averaged.
        stages: maps that make the features, each resized to the grid and concatenated; None for
            all stages.
        grid: cells a side on which the decoder works; its scores are resized bilinearly to the
            masks.
        weight_decay: the decoder minimises mean cross-entropy + weight_decay / 2 * ||W||^2 on standardised features.
        balance: an id that covers the share f of the labelled pixels weighs f^-balance. 0 is plain
            cross-entropy, which gives small parts to the background; 1 weighs all ids alike.
        test_indices: positions of the test bank, all by default.

    Raises:
        ConfigError: more shots than training images, no draw, a stage that is not there.
        DataError: an image without a part mask, non-finite features.
    """
    stages = tuple(stages or encoder.stages)
    chosen = draw_shots(len(train_bank), shots, draws, seed)
    labelled = np.unique(np.concatenate(chosen))
    points, targets = labelled_points(encoder, train_bank, labelled, stages, grid, batch, device)
    rows = [np.searchsorted(labelled, c) for c in chosen]
    # no share for the background: multi-label
    overlapping = targets.shape[2] == len(train_bank.dataset.part_names)
    decoders = [
        fit_decoder(points[r], targets[r], weight_decay, balance, overlapping) for r in rows
    ]
    order = np.arange(len(test_bank)) if test_indices is None else np.asarray(test_indices)
    counts = apply_decoders(encoder, test_bank, order, decoders, stages, grid, batch, device)
    return summarise(
        counts,
        ("background", *test_bank.dataset.part_names),
        shots=len(chosen[0]),
        n_test=len(order),
        stages=stages,
        grid=grid,
        converged=all(d.converged for d in decoders),
    )


def draw_shots(images: int, shots: int | None, draws: int, seed: int) -> list[np.ndarray]:
    """Sorted positions of the labelled images of each draw.

    Raises:
        ConfigError: see `few_shot_part_segmentation`.
    """
    if shots is None:
        return [np.arange(images)]
    if not 1 <= shots <= images:
        raise ConfigError(
            f"shots={shots} must lie between 1 and the {images} training images there are"
        )
    if draws < 1:
        raise ConfigError(f"draws={draws} must be at least 1")
    return [
        np.sort(np.random.default_rng([seed, r]).permutation(images)[:shots]) for r in range(draws)
    ]


def labelled_points(
    encoder: Encoder,
    bank: ImageBank,
    indices: np.ndarray,
    stages: Sequence[str],
    grid: int,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Features (n, g*g, D) and shares (n, g*g, K) of each id in the cells of these images, on
    `device`.
    """
    shares_nKgg = cell_shares(read_masks(bank, indices), len(bank.dataset.part_names) + 1, grid).to(
        device
    )
    points = []
    for chunk, features in iterate_features(encoder, bank, stages, indices, batch, device):
        map_BDgg = on_grid(features.maps, stages, grid)
        check_finite(map_BDgg, chunk, bank)
        points.append(map_BDgg.flatten(2).transpose(1, 2))
    return torch.cat(points).clone(), shares_nKgg.flatten(2).transpose(1, 2)


def fit_decoder(
    points_nND: Tensor,
    shares_nNK: Tensor,
    weight_decay: float,
    balance: float = 0.0,
    independent: bool = False,
    tol: float = 3e-3,
) -> LinearDecoder:
    """The optimum of mean cross-entropy + weight_decay / 2 * ||W||^2 on standardised features.

    Args:
        points_nND: features of the cells of the labelled images.
        shares_nNK: what each id covers of each cell.
        balance: see `few_shot_part_segmentation`; the mean weight is 1. Only with one softmax.
        independent: K sigmoids and binary cross-entropy in place of one softmax.
        tol: certified relative distance of the objective from its optimum.
    """
    x_ND, target_NK = points_nND.flatten(0, 1), shares_nNK.flatten(0, 1)
    if not independent:
        share_K = target_NK.mean(0)
        weight_K = torch.where(
            share_K > 0, share_K.clamp_min(1e-6) ** -balance, torch.zeros_like(share_K)
        )
        target_NK = target_NK * (weight_K / (weight_K * share_K).sum())
    scale_D = x_ND.std(0, correction=0).clamp_min(1e-6)
    fit = fit_logistic(
        x_ND / scale_D,
        target_NK,
        1 / (weight_decay * len(x_ND)),
        independent=independent,
        tol=tol,
        max_iter=1000,
    )
    return LinearDecoder(fit.weight_RKD[0] / scale_D, fit.bias_RK[0], bool(fit.converged_R[0]))


def apply_decoders(
    encoder: Encoder,
    bank: ImageBank,
    indices: np.ndarray,
    decoders: Sequence[LinearDecoder],
    stages: Sequence[str],
    grid: int,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Counts (R, 2, K) over the pixels of all these images, one pass of the encoder for all
    decoders.
    """
    weight = torch.cat([d.weight_KD for d in decoders])[..., None, None]
    bias = torch.cat([d.bias_K for d in decoders])
    total: np.ndarray | int = 0
    for chunk, features in iterate_features(encoder, bank, stages, indices, batch, device):
        logits = F.conv2d(on_grid(features.maps, stages, grid), weight, bias)
        masks = read_masks(bank, chunk)
        each = logits.unflatten(1, (len(decoders), -1)).unbind(1)
        total = total + np.stack([pixel_counts(scores_BKgg, masks) for scores_BKgg in each])
    return total


def pixel_counts(scores_BKgg: Tensor, masks: Tensor) -> np.ndarray:
    """Counts (2, K) of `metrics.id_counts` or `plane_counts` after bilinear resizing of the scores
    to the masks.

    Args:
        scores_BKgg: logits of K exclusive ids for masks (B, H, W); of P independent parts for (B,
            P, H, W), where a part is found above 0.
    """
    large = F.interpolate(
        scores_BKgg.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False
    )
    if masks.ndim == 4:
        return plane_counts((large > 0).cpu().numpy(), masks.numpy())
    return id_counts(large.argmax(1).cpu().numpy(), masks.numpy(), large.shape[1])


def summarise(counts: np.ndarray, names: Sequence[str], **described: object) -> SegmentationResult:
    """From the counts (R, 2, K) of the draws to the result."""
    iou = np.stack([iou_of_counts(c) for c in counts])
    parts = tuple(mean_iou(row, background=False) for row in iou)
    everything = tuple(mean_iou(row, background=True) for row in iou)
    occurs = ~np.isnan(iou).all(0)
    each = np.full(iou.shape[1], np.nan)
    each[occurs] = np.nanmean(iou[:, occurs], axis=0)
    sd = float(np.std(parts, ddof=1)) if len(parts) > 1 else float("nan")
    return SegmentationResult(
        float(np.mean(parts)),
        float(np.mean(everything)),
        sd,
        parts,
        everything,
        tuple(each.tolist()),
        tuple(names),
        **described,
    )
