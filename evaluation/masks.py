"""Part masks of a bank as arrays: read once, kept as long as the bank is alive.

Shapes: N images, H = W side of the bank, K ids including the background, P parts of a multi-label
set, g grid side.
"""

from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.records import without_ignored
from ssl_parts.errors import DataError

_READ: WeakKeyDictionary[ImageBank, dict[int, np.ndarray]] = WeakKeyDictionary()


def read_masks(bank: ImageBank, indices: np.ndarray) -> Tensor:
    """uint8 (n, H, W) of ids 0..P and IGNORE, or uint8 (n, P, H, W) of 0/1 where the set is
    multi-label, in the bank's geometry.

    Raises:
        DataError: an image without a mask, or an id that has no name.
    """
    known = _READ.setdefault(bank, {})
    for i in (int(i) for i in indices):
        if i not in known:
            known[i] = _checked_mask(bank, i)
    return torch.from_numpy(np.stack([known[int(i)] for i in indices]))


def check_masks(bank: ImageBank, indices: np.ndarray) -> None:
    """Raise the DataError that `read_masks` would, for the first image that has one; keeps none."""
    for i in indices:
        _checked_mask(bank, int(i))


def _checked_mask(bank: ImageBank, i: int) -> np.ndarray:
    mask, names = bank.sample(i).part_mask, bank.dataset.part_names
    if mask is None:
        raise DataError(
            f"{bank.paths[i]} has no part mask; part segmentation needs a set with masks for all "
            "its images"
        )
    highest = int(without_ignored(mask).max()) if mask.ndim == 2 else len(mask)
    if highest > len(names):
        raise DataError(
            f"{bank.paths[i]}: mask id {highest}, but {bank.dataset.name} names {len(names)} parts"
        )
    return mask.numpy().copy()


def cell_shares(masks: Tensor, classes: int, grid: int) -> Tensor:
    """How much of each grid cell each id covers; pixels that are not judged belong to none, so a
    cell's shares may sum to less than 1 (and a cell that is all of them has no weight).

    Cross-entropy of a cell's prediction against these shares is the mean cross-entropy of its
    pixels, so nothing is rounded to one id per cell.

    Args:
        masks: uint8 (n, H, W) of ids, or (n, P, H, W) of 0/1.
        classes: K of an id mask; not used for a multi-label one.
        grid: cells per side.

    Returns:
        float32 (n, K or P, grid, grid).
    """
    if masks.ndim == 3:
        planes = [
            F.adaptive_avg_pool2d((masks == k).float()[:, None], grid) for k in range(classes)
        ]
        return torch.cat(planes, 1)
    return F.adaptive_avg_pool2d(masks.float(), grid)
