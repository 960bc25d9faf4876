"""Cells of labelled training images that label the cells of test images, and how well.

Shapes: n images, B of a batch, N cells, M kept cells, D channels, K ids with the background.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.cells import CellReader
from evaluation.config import CellsConfig
from evaluation.masks import read_masks
from evaluation.metrics import iou_of_counts, mean_iou
from evaluation.part_segmentation import pixel_counts
from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import DataError


@dataclass(frozen=True)
class LabelTransfer:
    """IoU of labels that training cells gave to test cells, as fractions.

    iou_per_class: background first. precision: share of test cells on a part whose nearest
    training cell shows the same part, mean over parts; None where no nearest cell is asked for.
    """

    miou: float
    miou_with_background: float
    iou_per_class: tuple[float, ...]
    precision: float | None = None


@dataclass(frozen=True)
class Memory:
    """Kept cells: features (M, D) of unit length and the share (M, K) of each id in them."""

    units_MD: Tensor
    shares_MK: Tensor


def build_memory(
    cells: CellReader, bank: ImageBank, images: np.ndarray, count: int, seed: int
) -> Memory:
    """Keep a seeded choice of at most `count` cells of these images.

    Raises:
        DataError: parts that overlap, a missing mask, features that are not finite.
    """
    points_nND, shares_nNK = cells.read_labelled(bank, images)
    if shares_nNK.shape[2] == len(bank.dataset.part_names):
        raise DataError(
            f"{bank.dataset.name} has overlapping parts; retrieval and over-clustering need one id "
            "per pixel"
        )
    points_ND, shares_NK = points_nND.flatten(0, 1), shares_nNK.flatten(0, 1)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(points_ND))[:count])
    return Memory(unit_cells(points_ND[chosen], cells), shares_NK[chosen])


def unit_cells(points_ND: Tensor, cells: CellReader) -> Tensor:
    """Scale each stage's channels to unit length, then all together to length 1."""
    parts = points_ND.split([cells.encoder.dims[stage] for stage in cells.stages], dim=1)
    return torch.cat([F.normalize(p, dim=1) for p in parts], 1) / len(cells.stages) ** 0.5


def count_pixels(
    cells: CellReader, bank: ImageBank, predict: Callable[[Tensor, Tensor], Tensor]
) -> np.ndarray:
    """Count intersections and unions (2, K) over the pixels of all images of a bank.

    Args:
        predict: scores (B*N, K) from unit features (B*N, D) and the images' masks.
    """
    totals = []
    for chunk, map_BDgg in cells.iterate(bank):
        points_ND = map_BDgg.flatten(2).transpose(1, 2).flatten(0, 1)
        masks = read_masks(bank, chunk)
        scores_NK = predict(unit_cells(points_ND, cells), masks)
        grid_BggK = scores_NK.view(len(chunk), cells.grid, cells.grid, -1)
        totals.append(pixel_counts(grid_BggK.permute(0, 3, 1, 2), masks))
    return np.sum(totals, axis=0)


def cell_reader(
    encoder: Encoder, config: CellsConfig, batch: int, device: str | torch.device
) -> CellReader:
    """Read the configured stages; the last one where none are named.

    Raises:
        ConfigError: a stage that the encoder does not have.
    """
    stages = encoder.check_stages(config.layers or [encoder.last_stage])
    return CellReader(encoder, tuple(stages), config.grid, batch, device)


def summarise_transfer(counts: np.ndarray, precision: float | None = None) -> LabelTransfer:
    """Turn counts (2, K) into IoU."""
    iou = iou_of_counts(counts)
    return LabelTransfer(
        mean_iou(iou, background=False),
        mean_iou(iou, background=True),
        tuple(iou.tolist()),
        precision,
    )
