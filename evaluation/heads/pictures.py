"""A sheet of where a head finds its evidence: one row per image, with each of the head's maps and
its boxes laid over it.
"""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import write_png
from torchvision.utils import draw_bounding_boxes

from evaluation.heads.head import Head, Localization
from ssl_parts.encoders import evaluating
from ssl_parts.encoders.pictures import enlarged, heat
from ssl_parts.parts.palette import colours, contact_sheet

SIDE = 160  # pixels of a picture on the sheet
MAPS = 8  # drawn at most


def draw_localization(head: Head, images_N3HW: Tensor, path: Path) -> list[str]:
    """Write the sheet as PNG.

    Args:
        images_N3HW: uint8, at the size that the head is used at.

    Returns:
        the names of its columns, left to right.
    """
    device = next(head.parameters()).device
    with evaluating(head), torch.inference_mode():
        found = head.localize(images_N3HW.to(device).float().div(255))
    columns = columns_of(found, images_N3HW)
    rows = [picture for row in zip(*columns.values(), strict=True) for picture in row]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(contact_sheet(rows, columns=len(columns)), str(path))
    return list(columns)


def columns_of(found: Localization, images_N3HW: Tensor) -> dict[str, list[Tensor]]:
    """Name → one uint8 (3,SIDE,SIDE) per image: the image, its maps as heat, and all boxes on one
    picture.
    """
    large_N3SS = enlarged(images_N3HW, SIDE)
    columns = {"image": list(large_N3SS)}
    for name, map_Nhw in list(found.maps.items())[:MAPS]:
        columns[name] = list(heat(spread(map_Nhw.float().cpu()), large_N3SS))
    if found.boxes:
        columns[", ".join(found.boxes)] = [
            _draw_boxes(found, large_N3SS[i], i) for i in range(len(large_N3SS))
        ]
    return columns


def _draw_boxes(found: Localization, image_3SS: Tensor, i: int) -> Tensor:
    """Draw one colour per kind of boxes; what was not found is left out."""
    for (name, boxes_NR4), colour in zip(
        found.boxes.items(), colours(len(found.boxes)), strict=True
    ):
        boxes_R4 = boxes_NR4[i][found.valid[name][i]].cpu() * image_3SS.shape[-1]
        if len(boxes_R4):
            boxes_R4 = torch.cat([boxes_R4[:, :2].floor(), boxes_R4[:, 2:].ceil() - 1], 1)
            red, green, blue = (int(c) for c in colour)
            image_3SS = draw_bounding_boxes(image_3SS, boxes_R4, colors=(red, green, blue), width=2)
    return image_3SS


def spread(map_Nhw: Tensor) -> Tensor:
    """Each map scaled to [0,1]; a constant one becomes zeros."""
    low, high = map_Nhw.amin((1, 2), keepdim=True), map_Nhw.amax((1, 2), keepdim=True)
    return (map_Nhw - low) / (high - low).clamp(min=1e-12)
