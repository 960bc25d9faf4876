"""Part pooling: one vector for each sampled part id of a view (PARTICLE, section 3; DetCon, section
3).

Shapes: B views, K part ids, M sampled parts, D channels, HxW feature grid, hxw grid of the ids.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """Sampled parts of a batch of views; a row that is not valid takes part in nothing.

    Attributes:
        vectors_BMD: one vector per part.
        ids_BM: its id, long.
        valid_BM: bool; false where a view has fewer than M parts.
    """

    vectors_BMD: Tensor
    ids_BM: Tensor
    valid_BM: Tensor


def vote_ids(ids_Bhw: Tensor, k: int, grid: tuple[int, int]) -> Tensor:
    """Take the most frequent id in each cell of the feature grid: (B,h,w) to long (B,H,W).

    Ties go to the lower id.
    """
    if tuple(ids_Bhw.shape[-2:]) == grid:
        return ids_Bhw.long()
    one_hot_BKhw = F.one_hot(ids_Bhw.long(), k).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(one_hot_BKhw, grid).argmax(1)


def pool_parts(
    map_BDHW: Tensor,
    ids_Bhw: Tensor,
    k: int,
    samples: int,
    *,
    priority_BK: Tensor | None = None,
    background: int | None = None,
) -> Parts:
    """Average the feature map over each sampled part.

    Args:
        map_BDHW: dense features of one view.
        ids_Bhw: part ids of the same view, values 0..k-1, on any grid; a finer one is reduced by
            majority.
        k: number of part ids, the K of discovery (one number, so pooling can never disagree with
            the clustering).
        samples: M, parts taken from each view; where fewer are present the rest is marked not
            valid.
        priority_BK: which present ids are taken, highest first. Both views of an image should get
            the same numbers, so that the same parts are taken from both; without it the lowest ids
            are taken.
        background: an id that is never taken.

    Returns:
        Parts with M = min(samples, k); an absent id is never returned as valid.

    Example:
        >>> map_BDHW = torch.arange(4.0).view(1, 1, 2, 2)  # one channel: 0 1 / 2 3
        >>> ids_Bhw = torch.tensor([[[0, 0], [2, 2]]])  # the upper half is part 0, the lower part 2
        >>> parts = pool_parts(map_BDHW, ids_Bhw, k=3, samples=3)
        >>> parts.vectors_BMD.flatten().tolist(), parts.valid_BM.tolist()
        ([0.5, 2.5, 0.0], [[True, True, False]])
    """
    size_HW = (map_BDHW.shape[-2], map_BDHW.shape[-1])
    one_hot_BNK = F.one_hot(vote_ids(ids_Bhw, k, size_HW).flatten(1), k).to(map_BDHW.dtype)
    area_BK = one_hot_BNK.sum(1, dtype=torch.float32)
    picked_BM, valid_BM = _pick_ids(area_BK > 0, samples, priority_BK, background)
    sums_BKD = torch.einsum("bnk,bdn->bkd", one_hot_BNK, map_BDHW.flatten(2))
    means_BKD = sums_BKD / area_BK.clamp(min=1).to(sums_BKD.dtype).unsqueeze(-1)
    vectors_BMD = means_BKD.gather(1, picked_BM.unsqueeze(-1).expand(-1, -1, means_BKD.shape[-1]))
    return Parts(vectors_BMD * valid_BM.unsqueeze(-1), picked_BM, valid_BM)


def _pick_ids(
    present_BK: Tensor, samples: int, priority_BK: Tensor | None, background: int | None
) -> tuple[Tensor, Tensor]:
    """Pick the M present ids of highest priority: ids long (B,M), and which of them are present."""
    k, device = present_BK.shape[1], present_BK.device
    if background is not None:
        present_BK = present_BK & (torch.arange(k, device=device) != background)
    if priority_BK is None:
        lowest_first_K = -torch.arange(k, device=device, dtype=torch.float32)
        priority_BK = lowest_first_K.expand(len(present_BK), k)
    ranked_BK = priority_BK.masked_fill(~present_BK, -torch.inf)
    picked_BM = ranked_BK.topk(min(samples, k), dim=1).indices
    return picked_BM, present_BK.gather(1, picked_BM)
