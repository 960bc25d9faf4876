"""Background exchange: the object stays, what is behind it comes from another image of the batch.

An encoder that tells images apart by their backgrounds learns nothing about birds. Discovery knows
where the object is, so a view may get a stranger's background; what the two views still share is
the object. Ours, beside PARTICLE: background augmentation after Ryali, Schwab & Morcos (arXiv
2103.12719), with discovered instead of given foregrounds.

Shapes: B images, HxW pixels. Images are exchanged within blocks of four, b ^ 1 for view 1 and b ^
2 for view 2, so the two views of an image never share a new background, and a rank needs no image
of another rank.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 4
REACH = 7  # window of the local fill, as a share of 1/7 of the side


def partners(count: int, view: int) -> Tensor:
    """Whose background image b of a batch gets in view 0 or 1: long (count,).

    Training checks that the count is a multiple of four, so that ranks need no image of each
    other; any other count (a picture for a report) exchanges in a circle.
    """
    rows = torch.arange(count)
    return rows ^ (1 << view) if count % BLOCK == 0 else (rows + 1 + view) % count


def without_object(images_BCHW: Tensor, foreground_B1HW: Tensor) -> Tensor:
    """The images with the object painted over by the background around it; background pixels stay
    as they are.

    The fill is the mean of the background in a window around the pixel; deep inside the object
    that of a coarse grid.
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
    """Images in which the chosen ones stand before another image's background.

    Args:
        images_BCHW: uint8.
        foreground_Bhw: bool, on any grid over the whole image.
        chosen_B: bool, on the CPU.
        view: 0 or 1; decides the partner.
    """
    rows = chosen_B.nonzero().squeeze(1)
    if len(rows) == 0:
        return images_BCHW
    others = partners(len(images_BCHW), view)[rows].to(images_BCHW.device)
    rows = rows.to(images_BCHW.device)
    size = images_BCHW.shape[-2:]
    foreground_B1HW = (
        F.interpolate(foreground_Bhw.unsqueeze(1).float(), size=size, mode="nearest") > 0.5
    )
    behind = (
        without_object(images_BCHW[others].float(), foreground_B1HW[others])
        .round_()
        .to(torch.uint8)
    )
    return images_BCHW.index_copy(
        0, rows, torch.where(foreground_B1HW[rows], images_BCHW[rows], behind)
    )
