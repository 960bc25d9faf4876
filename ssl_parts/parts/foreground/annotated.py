"""Foreground from annotations: everything, boxes, or part masks. No encoder is asked.

Shapes: B images, S size of the grid of ids, N = S*S cells in row-major order.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.data.records import Sample
from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.dense.features import AnnotatedImages, Batch, FeatureSource
from ssl_parts.parts.foreground.foreground import Foreground


class NoForeground(Foreground):
    """No background: everything is clustered."""

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """None: all cells take part."""
        return None


class BoxForeground(Foreground):
    """Cells whose centre is inside the object's box."""

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Bool (B, N); PartDiscoveryError for an image without a box."""
        boxes = []
        for sample in read_samples(batch, source):
            if sample.box is None:
                raise PartDiscoveryError(
                    f"parts/foreground=box but {sample.path} has no box; choose "
                    "parts/foreground=votes"
                )
            boxes.append(sample.box)
        return fill_up(box_mask(boxes, source.images.size, self.size), batch)


class MaskForeground(Foreground):
    """Cells that are half part or more in the part mask."""

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """Bool (B, N); PartDiscoveryError for an image without a part mask."""
        masks = []
        for sample in read_samples(batch, source):
            if sample.part_mask is None:
                raise PartDiscoveryError(
                    f"parts/foreground=mask but {sample.path} has no part mask; choose "
                    "parts/foreground=votes"
                )
            masks.append(sample.part_mask)
        return fill_up(given_mask(masks, self.size), batch)


def read_samples(batch: Batch, source: FeatureSource) -> list[Sample]:
    """The records of the images that were asked for.

    Raises:
        PartDiscoveryError: images in hand, of which nothing is known.
    """
    images = source.images
    if not hasattr(images, "sample"):
        raise PartDiscoveryError(
            "parts/foreground=box and mask need a data set with annotations; choose "
            "parts/foreground=votes"
        )
    annotated: AnnotatedImages = images  # pyright: ignore[reportAssignmentType]
    return [annotated.sample(int(i)) for i in batch.indices[: batch.count]]


def fill_up(mask_nN: Tensor, batch: Batch) -> Tensor:
    """The last image's mask for those that only fill the batch up, (B, N), on the device."""
    rows_B = torch.from_numpy(np.arange(len(batch.indices)).clip(max=batch.count - 1))
    return mask_nN[rows_B].to(batch.images.device)


def box_mask(
    boxes: Sequence[tuple[float, float, float, float]], image_size: int, size: int
) -> Tensor:
    """Foreground (B, size*size) bool from boxes (x0, y0, x1, y1) in pixels: cells whose centre is
    inside.
    """
    centre_S = (torch.arange(size) + 0.5) * image_size / size
    masks = []
    for x0, y0, x1, y1 in boxes:
        columns_S, rows_S = (centre_S >= x0) & (centre_S <= x1), (centre_S >= y0) & (centre_S <= y1)
        masks.append((rows_S[:, None] & columns_S[None]).flatten())
    return torch.stack(masks)


def given_mask(part_masks: Sequence[Tensor], size: int) -> Tensor:
    """Foreground (B, size*size) bool from part masks, (H,W) ids or (P,H,W) of 0/1: cells that are
    half part or more.
    """
    masks = []
    for mask in part_masks:
        object_HW = (mask > 0).any(0) if mask.ndim == 3 else mask > 0
        pixels_11HW = object_HW[None, None].float()
        share_SS = F.interpolate(pixels_11HW, size=(size, size), mode="area")[0, 0]
        masks.append((share_SS >= 0.5).flatten())
    return torch.stack(masks)
