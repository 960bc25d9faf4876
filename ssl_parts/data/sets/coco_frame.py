"""The frame in which the regions of an image were drawn, and their way into the image as it is
shown."""

from dataclasses import dataclass

import numpy as np
import torch

from ssl_parts.data.decode import turn
from ssl_parts.data.geometry import resize_mask, same_shape
from ssl_parts.data.orientation import Header
from ssl_parts.data.sets.coco_masks import Outline, rasterise
from ssl_parts.errors import DataError

SCALED = "{n} images have another size than their annotation file says; regions are scaled"
TURNED = "{n} images are turned by EXIF after they were annotated; regions are turned with them"
UNSURE = (
    "{n} images are turned by EXIF and their annotation file does not tell whether regions were "
    "drawn before; they are "
    "taken as drawn on the picture as it is shown"
)


@dataclass(frozen=True)
class Frame:
    """Regions are drawn in pixels of `drawn`, scaled to `target` and turned by EXIF's
    `orientation`.

    drawn, target: (height, width); target is that of the picture before it is turned.
    remark: what to count about the image, "" for nothing.
    """

    drawn: tuple[int, int]
    target: tuple[int, int]
    orientation: int
    remark: str

    @classmethod
    def of(
        cls, said: tuple[int, int] | None, header: Header, height: int, width: int, path: str
    ) -> "Frame":
        """The frame of an image.

        Args:
            said: (height, width) of the annotation file.
            height, width: of the image as it is shown.

        Raises:
            DataError: a size that is neither that of the image nor a multiple of it.
        """
        shown, stored = (height, width), (header.height, header.width)
        unsure = UNSURE if header.fits_both_ways or (said is None and header.is_turned) else ""
        if said is None or said == shown:
            return cls(shown, shown, 1, unsure)
        if header.is_turned and said == stored:
            return cls(said, stored, header.orientation, TURNED)
        if same_shape(said, shown):
            return cls(said, shown, 1, SCALED)
        if header.is_turned and same_shape(said, stored):
            return cls(said, stored, header.orientation, TURNED)
        raise DataError(
            f"{path} is {width} x {height} pixels, but its annotation file says {said[1]} x "
            f"{said[0]}; was the image cut "
            "or squeezed after it was annotated? Correct width and height there, or annotate it "
            "again"
        )


def draw_region(outline: Outline, frame: Frame, where: str) -> np.ndarray:
    """bool (H, W) of a region in the image as it is shown.

    Raises:
        DataError: as `rasterise`.
    """
    if outline.counts is not None:
        mask = torch.from_numpy(_runs(outline, frame, where).astype(np.uint8))
        mask = resize_mask(mask, *frame.target)
    else:
        (y, x), (height, width) = frame.drawn, frame.target
        scale = np.array([width / x, height / y])
        scaled = Outline(tuple(polygon * scale for polygon in outline.polygons))
        mask = torch.from_numpy(rasterise(scaled, height, width, where).astype(np.uint8))
    return turn(mask, frame.orientation).numpy().astype(bool)


def _runs(outline: Outline, frame: Frame, where: str) -> np.ndarray:
    """Run lengths have a size of their own, or that of the frame; a scaled one must have its
    shape."""
    size = outline.size
    if size is None:
        pixels = sum(outline.counts or ())
        sizes = (frame.drawn, frame.target)
        size = next((s for s in sizes if s[0] * s[1] == pixels), frame.drawn)
    if not same_shape(size, frame.target):
        raise DataError(
            f"{where}: a run-length mask of {list(size)} does not fit {list(frame.target)} pixels "
            f"(height, width)"
        )
    return rasterise(outline, *size, where)
