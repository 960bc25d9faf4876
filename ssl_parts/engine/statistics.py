"""Statistics of features that show a collapse: effective rank, spread, use of the parts.

Shapes: N rows (images or views), D channels, M sampled parts, K part ids.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rank_me(features_ND: Tensor, eps: float = 1e-7) -> Tensor:
    """Compute the effective rank: exp of the entropy of the normalised singular values.

    Source: RankMe, arXiv 2210.02885, section 3.

    Args:
        features_ND: (N, D), any floating type.
        eps: added to each share, as the paper does.

    Returns:
        a scalar in [1, min(N, D)], up to eps.

    Example:
        >>> round(float(rank_me(torch.eye(6))), 2)
        6.0
    """
    singular = torch.linalg.svdvals(features_ND.float())
    p = singular / singular.sum().clamp(min=eps) + eps
    return torch.exp(-(p * p.log()).sum())


def feature_std(features_ND: Tensor) -> Tensor:
    """Compute the mean standard deviation of L2-normalised features (N, D), times sqrt(D).

    Returns:
        a scalar: 1 where rows are spread over the sphere, 0 where all rows are the same.
    """
    unit_ND = F.normalize(features_ND.float(), dim=1)
    return unit_ND.std(0).mean() * features_ND.shape[1] ** 0.5


def part_entropy(ids_NM: Tensor, valid_NM: Tensor, k: int) -> Tensor:
    """Compute the entropy of the sampled part ids over log k.

    Args:
        ids_NM: long (N, M), 0..k-1. valid_NM: bool (N, M); other ids are not counted.
        k: number of part ids.

    Returns:
        a scalar: 1 where all k are used evenly, 0 where a single one is.
    """
    counts_K = torch.zeros(k, device=ids_NM.device).index_add_(
        0, ids_NM.flatten(), valid_NM.flatten().float()
    )
    p_K = counts_K / counts_K.sum().clamp(min=1)
    return torch.special.entr(p_K).sum() / math.log(max(k, 2))
