"""Square regions of an image: anchors, the attention inside them, choosing some that keep apart,
cutting them out.

Boxes are x0 y0 x1 y1 as shares of the image.
Shapes: B images, A anchors, G groups, M regions of a group, R boxes, H W a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from ssl_parts.encoders import Encoder


def square_anchors(
    height: int, width: int, sides: Sequence[float], device: torch.device | None = None
) -> Tensor:
    """One square per anchor, of each side around each cell's centre, moved so that it lies inside
    the image.

    Returns (A,4), A = len(sides)*H*W: all cells of the first side in row-major order, then the
    next side's.
    """
    y_H, x_W = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))
    centres_N2 = torch.stack(torch.meshgrid(x_W, y_H, indexing="xy"), -1).flatten(0, 1)
    return torch.cat(
        [squares_around(centres_N2, torch.full_like(centres_N2[:, 0], side)) for side in sides]
    )


def squares_around(centres_N2: Tensor, sides_N: Tensor) -> Tensor:
    """Squares (...,4) around centres (...,2), at most the image, moved to lie inside it."""
    half = sides_N.clamp(max=1.0)[..., None] / 2
    centres_N2 = centres_N2.clamp(min=half, max=1 - half)
    return torch.cat([centres_N2 - half, centres_N2 + half], -1)


def attention_inside(attention_BHW: Tensor, boxes_A4: Tensor) -> Tensor:
    """Sum of the attention inside each box, (B,A); cells that a box cuts count by the share of
    their area.
    """
    height, width = attention_BHW.shape[-2:]
    rows_AH = _overlap(boxes_A4[:, 1], boxes_A4[:, 3], height)
    columns_AW = _overlap(boxes_A4[:, 0], boxes_A4[:, 2], width)
    return torch.einsum("bhw,ah,aw->ba", attention_BHW, rows_AH, columns_AW)


def _overlap(low_A: Tensor, high_A: Tensor, cells: int) -> Tensor:
    """Share of each of `cells` cells of [0,1] that lies between low and high, (A,cells)."""
    edges = torch.arange(cells + 1, device=low_A.device) / cells
    covered = torch.minimum(high_A[:, None], edges[1:]) - torch.maximum(low_A[:, None], edges[:-1])
    return covered.clamp(min=0) * cells


def choose_apart(
    scores_BGA: Tensor, overlap_AA: Tensor, count: int, limit: float
) -> tuple[Tensor, Tensor]:
    """Best anchors of each group, all of an image pairwise at an overlap of at most `limit`, also
    across groups.

    The groups choose in turn, so that the first does not take all. Where nothing is left that
    keeps apart, the best unchosen anchor is returned and marked invalid: the shapes never depend
    on the data.

    Returns:
        anchors (B,G,M) long, valid (B,G,M) bool.
    """
    B, G, A = scores_BGA.shape
    if G * count > A:
        raise ValueError(f"{G} groups of {count} regions from {A} anchors")
    free_BA = torch.ones(B, A, dtype=torch.bool, device=scores_BGA.device)
    taken_BA = torch.zeros_like(free_BA)
    picks, valid = [], []
    for _ in range(count):
        for g in range(G):
            # Anchors that keep apart come first, then the others, chosen ones never again.
            rank_BA = torch.where(free_BA, 0.0, -1e9) + torch.where(taken_BA, -1e18, 0.0)
            pick_B1 = (scores_BGA[:, g].double() + rank_BA).argmax(1, keepdim=True)
            picks.append(pick_B1[:, 0])
            valid.append(free_BA.gather(1, pick_B1)[:, 0])
            taken_BA = taken_BA.scatter(1, pick_B1, True)
            free_BA = free_BA & (overlap_AA[pick_B1[:, 0]] <= limit) & ~taken_BA
    picks_BGM, valid_BGM = (
        torch.stack(each, 1).view(B, count, G).transpose(1, 2) for each in (picks, valid)
    )
    return picks_BGM, valid_BGM


def crop_boxes(images_BCHW: Tensor, boxes_BR4: Tensor, size: int) -> Tensor:
    """Boxes cut out and resized to squares, (B*R,C,size,size), the regions of an image in a row;
    bilinear.
    """
    height, width = images_BCHW.shape[-2:]
    scale = boxes_BR4.new_tensor([width, height, width, height])
    return roi_align(
        images_BCHW,
        list((boxes_BR4 * scale).to(images_BCHW.dtype)),
        size,
        sampling_ratio=2,
        aligned=True,
    )


def crop_pixels(encoder: Encoder, side: int, share: float) -> int:
    """Side in pixels at which a region is encoded: a share of the image's, in whole patches of a
    ViT, at least two.
    """
    step = encoder.strides[encoder.stages[0]] if encoder.stages[0].startswith("block") else 1
    return max(2, round(side * share / step)) * step
