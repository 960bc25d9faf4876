"""Boxes around a found object and its largest found parts, as a function of part ids alone.

Shapes: B images, hxw grid of ids, P parts, M = 1 + P boxes per image, the object's first. Boxes
are x0 y0 x1 y1 as shares of the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_parts.parts.foreground.mined_boxes import boxes_of
from ssl_parts.parts.refinement.components import largest_component


@dataclass(frozen=True)
class FoundBoxes:
    """boxes_BM4: inside the image; the whole image where there is none. valid_BM: bool."""

    boxes_BM4: Tensor
    valid_BM: Tensor


def find_boxes(
    ids_Bhw: Tensor,
    background: int | None,
    parts: int = 4,
    margin: float = 1.15,
    part_side: float = 0.5,
) -> FoundBoxes:
    """Find a box around the object of each image and squares around its largest parts.

    The object is the largest connected component of the foreground, a part all its cells of one
    id; of equally large parts the lower id comes first.

    Args:
        ids_Bhw: integer part ids. background: the id of what is not object; None: all is object.
        parts: P; where an image has fewer, the last boxes are not valid.
        margin: the object's box is larger by this factor, and cut at the image's edges.
        part_side: of a part's square around its centre of mass, as a share of the longer side of
            the object's box without margin; moved into the image where it sticks out.
    """
    ids_Bhw = ids_Bhw.long()
    foreground_Bhw = ids_Bhw != (-1 if background is None else background)
    object_Bhw = largest_component(foreground_Bhw)
    object_B4 = boxes_of(object_Bhw)
    centres_BP2, there_BP = centre_parts(ids_Bhw, object_Bhw, parts)
    side_B = part_side * (object_B4[:, 2:] - object_B4[:, :2]).amax(1)
    squares_BP4 = place_boxes(centres_BP2, side_B[:, None, None].expand(-1, parts, 2))
    boxes_BM4 = torch.cat([enlarge(object_B4, margin)[:, None], squares_BP4], 1)
    valid_BM = torch.cat([object_Bhw.flatten(1).any(1, keepdim=True), there_BP], 1)
    whole_4 = boxes_BM4.new_tensor([0, 0, 1, 1])
    return FoundBoxes(torch.where(valid_BM[..., None], boxes_BM4, whole_4), valid_BM)


def centre_parts(ids_Bhw: Tensor, object_Bhw: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Centres of mass x, y (B,P,2) of the largest parts of each object, and which exist (B,P)."""
    k = max(int(ids_Bhw.max()) + 1, parts)
    cells_BKhw = (ids_Bhw[:, None] == torch.arange(k, device=ids_Bhw.device)[:, None, None]).float()
    cells_BKhw = cells_BKhw * object_Bhw[:, None]
    area_BK = cells_BKhw.sum((2, 3))
    x_BK = cells_BKhw.sum(2) @ cell_centres(ids_Bhw.shape[2], cells_BKhw)
    y_BK = cells_BKhw.sum(3) @ cell_centres(ids_Bhw.shape[1], cells_BKhw)
    centres_BK2 = torch.stack([x_BK, y_BK], 2) / area_BK.clamp(min=1)[..., None]
    largest_BP = area_BK.argsort(dim=1, descending=True, stable=True)[:, :parts]
    centres_BP2 = centres_BK2.gather(1, largest_BP[..., None].expand(-1, -1, 2))
    return centres_BP2, area_BK.gather(1, largest_BP) > 0


def cell_centres(cells: int, like: Tensor) -> Tensor:
    """Centres of a row of cells as shares of its length, of the device and type of `like`."""
    return (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) / cells


def enlarge(boxes_N4: Tensor, factor: float) -> Tensor:
    """Boxes with sides larger by a factor around the same centres, cut at the image's edges."""
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    halves_N2 = (boxes_N4[:, 2:] - boxes_N4[:, :2]) / 2 * factor
    return torch.cat([centres_N2 - halves_N2, centres_N2 + halves_N2], 1).clamp(0, 1)


def place_boxes(centres_2: Tensor, sides_2: Tensor) -> Tensor:
    """Boxes (...,4) of these sides around these centres (...,2), moved into the image."""
    halves_2 = sides_2.clamp(max=1) / 2
    inside_2 = torch.minimum(torch.maximum(centres_2, halves_2), 1 - halves_2)
    return torch.cat([inside_2 - halves_2, inside_2 + halves_2], -1)


def scatter_boxes(boxes_BM4: Tensor, uniform_BM2: Tensor) -> Tensor:
    """Boxes of the same sides anywhere in the image, by numbers in [0, 1): (B,M,4)."""
    sides_BM2 = boxes_BM4[..., 2:] - boxes_BM4[..., :2]
    starts_BM2 = uniform_BM2 * (1 - sides_BM2)
    return torch.cat([starts_BM2, starts_BM2 + sides_BM2], -1)


def to_windows(boxes_N4: Tensor, side: int) -> Tensor:
    """Whole-pixel windows (x, y, width, height) of boxes, long (N,4), inside side x side pixels."""
    lengths_N2 = ((boxes_N4[:, 2:] - boxes_N4[:, :2]) * side).round().clamp(1, side)
    starts_N2 = (boxes_N4[:, :2] * side).floor().clamp(min=0)
    return torch.cat([torch.minimum(starts_N2, side - lengths_N2), lengths_N2], 1).long()
