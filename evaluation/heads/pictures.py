"""One sheet a head: a row an image, with each of the head's maps and its boxes laid over it."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import write_png
from torchvision.utils import draw_bounding_boxes

from evaluation.heads.head import Head, Looks
from ssl_parts.encoders import evaluating
from ssl_parts.encoders.pictures import enlarged, heat
from ssl_parts.parts.palette import colours, contact_sheet

SIDE = 160  # pixels of a picture on the sheet
MAPS = 8  # shown of a head with more


def looks_sheet(head: Head, images_N3HW: Tensor, path: Path) -> list[str]:
    """Write the sheet as PNG; the names of its columns, left to right.

    Args:
        images_N3HW: uint8, at the size that the head is used at.
    """
    device = next(head.parameters()).device
    with evaluating(head), torch.inference_mode():
        looks = head.looks(images_N3HW.to(device).float().div(255))
    columns = columns_of(looks, images_N3HW)
    rows = [picture for row in zip(*columns.values(), strict=True) for picture in row]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(contact_sheet(rows, columns=len(columns)), str(path))
    return list(columns)


def columns_of(looks: Looks, images_N3HW: Tensor) -> dict[str, list[Tensor]]:
    """Name → one uint8 (3,SIDE,SIDE) an image: the image, its maps as heat, and all boxes on one
    picture.
    """
    shown = enlarged(images_N3HW, SIDE)
    columns = {"image": list(shown)}
    for name, map_Nhw in list(looks.maps.items())[:MAPS]:
        columns[name] = list(heat(spread(map_Nhw.float().cpu()), shown))
    if looks.boxes:
        columns[", ".join(looks.boxes)] = [_boxed(looks, shown[i], i) for i in range(len(shown))]
    return columns


def _boxed(looks: Looks, image_3SS: Tensor, i: int) -> Tensor:
    """One colour a kind of boxes; what was not found is left out."""
    for (name, boxes_NR4), colour in zip(
        looks.boxes.items(), colours(len(looks.boxes)), strict=True
    ):
        boxes_R4 = boxes_NR4[i][looks.valid[name][i]].cpu() * image_3SS.shape[-1]
        if len(boxes_R4):
            boxes_R4 = torch.cat([boxes_R4[:, :2].floor(), boxes_R4[:, 2:].ceil() - 1], 1)
            image_3SS = draw_bounding_boxes(
                image_3SS, boxes_R4, colors=tuple(int(c) for c in colour), width=2
            )
    return image_3SS


def spread(map_Nhw: Tensor) -> Tensor:
    """Each map scaled to [0,1]; a constant one becomes zeros."""
    low, high = map_Nhw.amin((1, 2), keepdim=True), map_Nhw.amax((1, 2), keepdim=True)
    return (map_Nhw - low) / (high - low).clamp(min=1e-12)
