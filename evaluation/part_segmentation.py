"""Few-shot part segmentation from frozen dense features with a linear decoder.

A few labelled images, one softmax regression shared by all positions (a 1x1 convolution) fitted to
its optimum, so the figure has no step size, no number of epochs and no initialisation in it.
Metric: intersection and union summed over the data set (arXiv 2309.13822; docs/method.md, section
13). Sets whose parts overlap get one sigmoid per part instead of the softmax; a part is found where
its logit is above 0.

Shapes: n shots, D channels, g grid side, K ids including the background, R draws, B images, H = W
side of the masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.cells import CellReader
from evaluation.config import LinearDecoderConfig
from evaluation.logistic import fit_logistic
from evaluation.masks import read_masks
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
    converged: bool = True  # whether every decoder reached its optimum


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
    config: LinearDecoderConfig | None = None,
    *,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> SegmentationResult:
    """Train a linear decoder on a few labelled images and test it on all of `test_bank`.

    Args:
        shots: labelled training images; None for all of them (then there is one draw). Draw r
            depends on (config.seed, r) and the number of training images alone.
        config: the settings; their defaults where it is None.

    Raises:
        ConfigError: more shots than training images, a stage that is not there.
        DataError: an image without a part mask, non-finite features.
    """
    config = config or LinearDecoderConfig()
    stages = encoder.check_stages(config.layers or encoder.stages)
    cells = CellReader(encoder, tuple(stages), config.grid, batch, device)
    chosen = draw_shots(len(train_bank), shots, config.draws, config.seed)
    labelled = np.unique(np.concatenate(chosen))
    points, targets = cells.read_labelled(train_bank, labelled)
    # no share for the background: multi-label
    overlapping = targets.shape[2] == len(train_bank.dataset.part_names)
    decoders = []
    for rows in (np.searchsorted(labelled, c) for c in chosen):
        x_nND, shares_nNK = points[rows], targets[rows]
        decoders.append(
            fit_decoder(x_nND, shares_nNK, config.weight_decay, config.balance, overlapping)
        )
    counts = apply_decoders(cells, test_bank, decoders)
    converged = all(decoder.converged for decoder in decoders)
    return summarise(counts, ("background", *test_bank.dataset.part_names), converged)


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
        balance: see `LinearDecoderConfig`; the mean weight is 1. Only with one softmax.
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
    cells: CellReader, bank: ImageBank, decoders: Sequence[LinearDecoder]
) -> np.ndarray:
    """Count intersections and unions (R, 2, K) over the pixels of all images of a bank, with one
    pass of the encoder for all decoders.
    """
    weight = torch.cat([d.weight_KD for d in decoders])[..., None, None]
    bias = torch.cat([d.bias_K for d in decoders])
    totals = []
    for chunk, map_BDgg in cells.iterate(bank):
        each = F.conv2d(map_BDgg, weight, bias).unflatten(1, (len(decoders), -1)).unbind(1)
        masks = read_masks(bank, chunk)
        totals.append(np.stack([pixel_counts(scores_BKgg, masks) for scores_BKgg in each]))
    return np.sum(totals, axis=0)


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


def summarise(
    counts: np.ndarray, names: Sequence[str], converged: bool = True
) -> SegmentationResult:
    """Turn the counts (R, 2, K) of the draws into IoU of the classes `names`."""
    iou = np.stack([iou_of_counts(c) for c in counts])
    parts = tuple(mean_iou(row, background=False) for row in iou)
    everything = tuple(mean_iou(row, background=True) for row in iou)
    occurs = ~np.isnan(iou).all(0)
    each = np.full(iou.shape[1], np.nan)
    each[occurs] = np.nanmean(iou[:, occurs], axis=0)
    return SegmentationResult(
        miou=float(np.mean(parts)),
        miou_with_background=float(np.mean(everything)),
        sd=float(np.std(parts, ddof=1)) if len(parts) > 1 else float("nan"),
        draws=parts,
        draws_with_background=everything,
        iou_per_class=tuple(each.tolist()),
        names=tuple(names),
        converged=converged,
    )
