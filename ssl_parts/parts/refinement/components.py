"""Connected components of masks, for a whole batch on its own device.

Shapes: B masks, H x W cells, N = H*W.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F


def largest_component(mask_BHW: Tensor, diagonals: bool = True) -> Tensor:
    """The largest connected component of each mask, the first in row-major order of equal ones.

    Args:
        mask_BHW: bool.
        diagonals: whether cells that touch at a corner are connected (8 neighbours, else 4).

    Returns:
        bool (B, H, W); an empty mask stays empty.
    """
    number = _number_by_scan if mask_BHW.device.type == "cpu" else number_by_sweeps
    numbers_BN = number(mask_BHW, diagonals).flatten(1)
    sizes_BN = numbers_BN.new_zeros(len(mask_BHW), mask_BHW[0].numel() + 1)
    sizes_BN.scatter_add_(1, numbers_BN, (numbers_BN > 0).long())
    largest_B1 = sizes_BN.argmax(1, keepdim=True)  # the first of equal sizes
    return ((numbers_BN == largest_B1) & (numbers_BN > 0)).view(mask_BHW.shape)


def _number_by_scan(mask_BHW: Tensor, diagonals: bool) -> Tensor:
    """`number_by_sweeps` on a CPU, with the numbers 1, 2, ... in the same order."""
    neighbours = np.ones((3, 3)) if diagonals else None
    numbers_BHW = np.zeros(mask_BHW.shape, np.int32)
    for mask_HW, numbers_HW in zip(mask_BHW.numpy(), numbers_BHW):
        ndimage.label(mask_HW, neighbours, output=numbers_HW)
    return torch.from_numpy(numbers_BHW).long()


def number_by_sweeps(mask_BHW: Tensor, diagonals: bool = True) -> Tensor:
    """A number per component, smaller for those that begin earlier in row-major order; 0 outside.

    Each cell takes the largest label among its neighbours, then in its unbroken run of its row and
    of its column, until nothing changes: a few sweeps of the whole batch, where steps to neighbours
    alone take as many as the longest path.

    Returns:
        long (B, H, W).
    """
    H, W = mask_BHW.shape[1:]
    labels_BHW = torch.arange(H * W, 0, -1, device=mask_BHW.device).view(1, H, W) * mask_BHW
    while True:
        spread_BHW = labels_BHW
        if diagonals:
            pooled_B1HW = F.max_pool2d(labels_BHW[:, None].double(), 3, stride=1, padding=1)
            spread_BHW = pooled_B1HW[:, 0].long() * mask_BHW
        spread_BHW = _spread_along_runs(spread_BHW, mask_BHW)
        spread_BHW = _spread_along_runs(spread_BHW.mT, mask_BHW.mT).mT
        if torch.equal(spread_BHW, labels_BHW):
            return (H * W + 1 - labels_BHW) * mask_BHW
        labels_BHW = spread_BHW


def _spread_along_runs(labels_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """The largest label of each unbroken run of a row, for all of the run."""
    H, W = labels_BHW.shape[-2:]
    for _ in range(2):  # left to right, then right to left
        # Runs are numbered in rising order, so a running maximum of (run, label) starts anew with
        # each run.
        run_BHW = (~mask_BHW).long().cumsum(2) * (H * W + 1)
        labels_BHW = ((run_BHW + labels_BHW).cummax(2).values - run_BHW).flip(2) * mask_BHW.flip(2)
        mask_BHW = mask_BHW.flip(2)
    return labels_BHW
