"""Fully connected CRF on the grid of the ids: neighbours that look alike should agree (Krähenbühl
and Koltun 2011).

Exact: all pairs of cells, no lattice. Grids are small (64 x 64 makes 16.8 M pairs per image),
images go one by one.

Shapes: B images, L labels, S x S grid, N = S*S cells.
"""

import torch
from torch import Tensor

from ssl_parts.parts.refinement.config import CrfConfig


def mean_field(costs_BLSS: Tensor, pixels_B3SS: Tensor, config: CrfConfig) -> Tensor:
    """Probabilities (B, L, S, S) of a Potts model with a Gaussian and a bilateral kernel,
    symmetrically normalised.

    Q = softmax(-cost + w1 K1 Q + w2 K2 Q), repeated; K_ij = k_ij / sqrt(sum_j k_ij sum_i k_ij), k
    including i = j, as `pydensecrf` with NORMALIZE_SYMMETRIC and DIAG_KERNEL has it.

    Args:
        costs_BLSS: negative log-probabilities, up to a constant per cell. pixels_B3SS: colours
            0..255 on the same grid.
    """
    out = []
    for costs_LSS, pixels_3SS in zip(costs_BLSS.float(), pixels_B3SS.float()):
        kernel_NN = pair_kernel(pixels_3SS, config)
        costs_LN = costs_LSS.flatten(1)
        belief_LN = torch.softmax(-costs_LN, 0)
        for _ in range(config.iterations):
            belief_LN = torch.softmax(belief_LN @ kernel_NN - costs_LN, 0)
        out.append(belief_LN.view_as(costs_LSS))
    return torch.stack(out)


def pair_kernel(pixels_3SS: Tensor, config: CrfConfig) -> Tensor:
    """Weighted sum (N, N) of the two normalised kernels."""
    size = pixels_3SS.shape[-1]
    near_SS = _bump(size, config.near, pixels_3SS.device)
    near_NN = _outer(near_SS / near_SS.sum(1).sqrt()[:, None] / near_SS.sum(0).sqrt())
    colours_N3 = pixels_3SS.flatten(1).T / config.colour
    alike_NN = (torch.cdist(colours_N3, colours_N3).square_().mul_(-0.5)).exp_()
    alike_NN.mul_(_outer(_bump(size, config.reach, pixels_3SS.device)))
    scale_N = alike_NN.sum(1).rsqrt()
    return (
        alike_NN.mul_(scale_N[:, None])
        .mul_(scale_N * config.colour_weight)
        .add_(near_NN, alpha=config.near_weight)
    )


def label_costs(ids_BSS: Tensor, labels: int, certainty: float) -> Tensor:
    """Costs (B, L, S, S) of ids that are right with this probability, all others being alike."""
    wrong = (1 - certainty) / max(1, labels - 1)
    hit_BLSS = ids_BSS.long()[:, None] == torch.arange(labels, device=ids_BSS.device)[:, None, None]
    return -torch.where(hit_BLSS, certainty, wrong).log()


def _bump(size: int, reach: float, device: torch.device) -> Tensor:
    along_S = torch.arange(size, device=device, dtype=torch.float32)
    return torch.exp(-0.5 * ((along_S[:, None] - along_S) / reach) ** 2)


def _outer(rows_SS: Tensor) -> Tensor:
    """Kernel over (y, x) pairs from one over single coordinates, (S*S, S*S)."""
    size = len(rows_SS)
    return (rows_SS[:, None, :, None] * rows_SS[None, :, None, :]).reshape(size**2, size**2)
