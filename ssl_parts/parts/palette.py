"""Colours of part ids, the same in every picture that the project makes."""

import colorsys

import numpy as np
import torch
from torch import Tensor

BACKGROUND = (30, 30, 30)
GOLDEN_ANGLE = 0.381966  # neighbouring ids get hues that are far apart, for any number of ids


def colours(k: int, background: int | None = None) -> np.ndarray:
    """uint8 (k, 3): one colour an id; the background's is near black."""
    table = []
    for i in range(k):
        lightness = (0.52, 0.68, 0.40)[(i // 7) % 3]
        rgb = colorsys.hls_to_rgb((0.03 + GOLDEN_ANGLE * i) % 1.0, lightness, 0.85)
        table.append([round(255 * c) for c in rgb])
    if background is not None:
        table[background] = list(BACKGROUND)
    return np.array(table, np.uint8)


def overlay(
    image: Tensor, ids_hw: Tensor, k: int, background: int | None = None, opacity: float = 0.55
) -> Tensor:
    """The image (uint8 (3,H,W)) with its ids (h,w) laid over it; background stays the photograph.
    uint8 (3,H,W).
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height) * ids_hw.shape[0] // height
    columns = torch.arange(width) * ids_hw.shape[1] // width
    ids_HW = ids_hw.long()[rows][:, columns]
    tint = torch.from_numpy(colours(k, background))[ids_HW].permute(2, 0, 1).float()
    strength = torch.full(ids_HW.shape, opacity)
    if background is not None:
        strength[ids_HW == background] = 0.0
    return (image.float() * (1 - strength) + tint * strength).round().to(torch.uint8)


def contact_sheet(pictures: list[Tensor], columns: int, gap: int = 2) -> Tensor:
    """Pictures of one size (uint8 (3,H,W)) in rows of `columns`, on white. uint8 (3, H', W')."""
    height, width = pictures[0].shape[-2:]
    rows = -(-len(pictures) // columns)
    sheet = torch.full(
        (3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8
    )
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, y : y + height, x : x + width] = picture
    return sheet
