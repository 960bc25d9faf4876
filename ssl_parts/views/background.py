"""Background exchange: the object stays, what is behind it comes from another image of the batch.

An encoder that tells images apart by their backgrounds learns nothing about birds. Discovery knows
where the object is, so a view may get a stranger's background; what the two views still share is
the object.

The idea is not ours. Prior art: Ryali, Schwab & Morcos (arXiv 2103.12719, BG_Swaps with saliency
masks), DiLo (Zhao et al., arXiv 2004.06638, salient foregrounds pasted on other backgrounds) and
CVSA (Wu et al., arXiv 2106.15788, crops and swaps of salient regions for fine-grained
self-supervision). Here the foreground is that of the part discovery, found anew in every round.

Shapes: B images, V of them chosen, HxW pixels, hxw grid of the ids. Images are exchanged within
blocks of four, b ^ 1 for view 1 and b ^ 2 for view 2, so the two views of an image never share a
new background, and a process needs no image of another one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 4
REACH = 7  # the window of the local fill is 1/7 of the side


def choose_partners(count: int, view: int) -> Tensor:
    """Choose whose background image b of a batch gets in a view: long (count,) on the CPU.

    Views 0, 2, ... take one partner of the block, views 1, 3, ... another. Training checks that the
    count is a multiple of four, so that processes need no image of each other; any other count (a
    picture for a report) exchanges in a circle.
    """
    rows_B, parity = torch.arange(count), view % 2
    return rows_B ^ (1 << parity) if count % BLOCK == 0 else (rows_B + 1 + parity) % count


def remove_object(images_BCHW: Tensor, foreground_B1HW: Tensor) -> Tensor:
    """Paint the object over with the background around it; background pixels stay as they are.

    The fill is the mean of the background in a window around the pixel; deep inside the object
    that of a coarse 4x4 grid.

    Args:
        images_BCHW: float.
        foreground_B1HW: bool, true on the object.
    """
    background = (~foreground_B1HW).to(images_BCHW.dtype)
    window = max(3, images_BCHW.shape[-1] // REACH // 2 * 2 + 1)
    near_sum = F.avg_pool2d(images_BCHW * background, window, 1, window // 2)
    near_share = F.avg_pool2d(background, window, 1, window // 2)
    coarse_share = F.adaptive_avg_pool2d(background, 4)
    whole = (images_BCHW * background).mean((2, 3), keepdim=True) / background.mean(
        (2, 3), keepdim=True
    ).clamp(min=1e-3)
    coarse = F.adaptive_avg_pool2d(images_BCHW * background, 4) / coarse_share.clamp(min=1e-3)
    coarse = torch.where(coarse_share > 0.05, coarse, whole)
    far = F.interpolate(coarse, size=images_BCHW.shape[-2:], mode="bilinear", align_corners=False)
    fill = torch.where(near_share > 0.1, near_sum / near_share.clamp(min=1e-3), far)
    return torch.where(foreground_B1HW, fill, images_BCHW)


def exchange_backgrounds(
    images_BCHW: Tensor, foreground_Bhw: Tensor, chosen_B: Tensor, view: int
) -> Tensor:
    """Put the objects of the chosen images before another image's background; uint8 (B,C,H,W).

    Args:
        images_BCHW: uint8.
        foreground_Bhw: bool, on any grid over the whole image.
        chosen_B: bool, on the CPU.
        view: number of the view; decides the partner.
    """
    rows_V = chosen_B.nonzero().squeeze(1)
    if len(rows_V) == 0:
        return images_BCHW
    others_V = choose_partners(len(images_BCHW), view)[rows_V].to(images_BCHW.device)
    rows_V = rows_V.to(images_BCHW.device)
    foreground_B1HW = _resize_mask(foreground_Bhw, images_BCHW.shape[-2:])
    behind_VCHW = (
        remove_object(images_BCHW[others_V].float(), foreground_B1HW[others_V])
        .round_()
        .to(torch.uint8)
    )
    exchanged_VCHW = torch.where(foreground_B1HW[rows_V], images_BCHW[rows_V], behind_VCHW)
    return images_BCHW.index_copy(0, rows_V, exchanged_VCHW)


def _resize_mask(mask_Bhw: Tensor, size: torch.Size) -> Tensor:
    """The mask on another grid by nearest neighbour, bool (B,1,H,W)."""
    return F.interpolate(mask_Bhw.unsqueeze(1).float(), size=size, mode="nearest") > 0.5
