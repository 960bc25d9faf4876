"""Random choices that depend on the seed of an image alone, not on its batch, process or a resume.

Shapes: B images, M chosen cells.
"""

import torch
from torch import Tensor


def uniforms(seeds_B: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) per image from its seed (SplitMix64, Steele et al. 2014).

    Args:
        seeds_B: long (B,).

    Returns:
        float64 (B, count), on the CPU.
    """
    step = torch.arange(1, count + 1, dtype=torch.long)
    z = _mix(seeds_B.cpu().long()[:, None] * 0x2545F4914F6CDD1D) + step * -0x61C8864680B583EB
    return ((_mix(z) >> 11) & (2**53 - 1)).double() / 2**53


def sample_cells(seeds_B: Tensor, total: int, count: int) -> Tensor:
    """`count` different cells of 0..total-1 per image, ascending: long (B, M), M <= count."""
    return uniforms(seeds_B, total).argsort(dim=1, stable=True)[:, :count].sort(dim=1).values


def take_cells(points_BND: Tensor, cells_BM: Tensor) -> Tensor:
    """Points (B, M, D) of some cells of each image."""
    return points_BND[torch.arange(len(points_BND))[:, None], cells_BM.to(points_BND.device)]


def _mix(z: Tensor) -> Tensor:
    z = (z ^ ((z >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    z = (z ^ ((z >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return z ^ ((z >> 31) & (2**33 - 1))
