"""Regions of COCO files as masks: polygons, and run lengths as numbers or as COCO's string.

A pixel is in a polygon where its centre is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_parts.errors import DataError

FARTHEST = 1e7  # pixels from the origin; what lies beyond is no coordinate
OUTSIDE = 0.05  # share of a side that a region may lie beyond the frame


@dataclass(frozen=True)
class Outline:
    """A segmentation: polygons (N, 2) of x, y in pixels, or run lengths down the columns.

    size: (height, width) of the run lengths, None where the file does not say.
    flat: polygons of less than three corners, which have no area and are left out.
    """

    polygons: tuple[np.ndarray, ...] = ()
    counts: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    flat: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.polygons and self.counts is None


def read_outline(segmentation: Any, where: str) -> Outline:
    """A segmentation of a COCO file; null and [] have no region.

    Polygons are lists of x, y, ...; a single flat list, and corners as [x, y] pairs, are read too.

    Raises:
        DataError: anything else; coordinates that are no finite numbers.
    """
    if not segmentation:
        return Outline()
    if isinstance(segmentation, dict):
        return _read_runs(segmentation, where)
    if not isinstance(segmentation, list):
        raise DataError(
            f"{where}: segmentation is {str(segmentation)[:40]!r}, no polygon and no mask"
        )
    polygons = [_corners(polygon, where) for polygon in _each_polygon(segmentation)]
    solid = tuple(polygon for polygon in polygons if len(polygon) > 2)
    return Outline(solid, flat=len(polygons) - len(solid))


def _each_polygon(segmentation: list) -> list[Any]:
    if not any(isinstance(entry, list) for entry in segmentation):
        return [segmentation]  # one flat list
    pairs = all(isinstance(entry, list) and len(entry) == 2 for entry in segmentation)
    if pairs and not any(isinstance(number, list) for entry in segmentation for number in entry):
        return [[number for pair in segmentation for number in pair]]
    return segmentation


def _corners(polygon: Any, where: str) -> np.ndarray:
    """float64 (N, 2)."""
    if isinstance(polygon, list) and polygon and all(isinstance(pair, list) for pair in polygon):
        polygon = [number for pair in polygon for number in pair]
    plain = isinstance(polygon, list) and all(type(number) in (int, float) for number in polygon)
    if not plain or len(polygon) % 2:
        raise DataError(f"{where}: {str(polygon)[:60]} is no polygon of x, y pairs")
    try:
        corners_N2 = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        corners_N2 = np.full((1, 2), np.inf)
    if not (np.abs(corners_N2) < FARTHEST).all():
        raise DataError(f"{where}: a polygon has corners that are no pixels ({str(polygon)[:60]})")
    return corners_N2


def _read_runs(segmentation: dict, where: str) -> Outline:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if isinstance(counts, str):
        counts = unpack_runs(counts)
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise DataError(f"{where}: run lengths {str(counts)[:60]} are no list of whole numbers")
    if size is None:
        return Outline(counts=tuple(counts))
    sides = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    if not sides or sum(counts) != size[0] * size[1] or min(size) < 1:
        raise DataError(
            f"{where}: run lengths of {sum(counts)} pixels do not make a mask of {size} (height, "
            f"width)"
        )
    return Outline(counts=tuple(counts), size=(size[0], size[1]))


def rasterise(outline: Outline, height: int, width: int, where: str) -> np.ndarray:
    """bool (H, W) of an outline drawn in a frame of this size.

    Raises:
        DataError: run lengths of another size; polygons that lie outside.
    """
    if outline.counts is not None:
        if outline.size not in (None, (height, width)) or sum(outline.counts) != height * width:
            raise DataError(
                f"{where}: a run-length mask of {list(outline.size or ())} and "
                f"{sum(outline.counts)} pixels does not "
                f"fit {height} x {width} pixels (height, width)"
            )
        flat = np.repeat(np.arange(len(outline.counts)) % 2 == 1, outline.counts)
        return flat.reshape(width, height).T
    region = np.zeros((height, width), dtype=bool)
    for corners_N2 in outline.polygons:
        region |= _fill(corners_N2, height, width)
    if outline.polygons and not region.any():
        _refuse_outside(outline, height, width, where)
    return region


def _refuse_outside(outline: Outline, height: int, width: int, where: str) -> None:
    corners_N2 = np.concatenate(outline.polygons)
    sides = np.array([width, height])
    low, high = corners_N2.min(0), corners_N2.max(0)
    if (low > sides * (1 + OUTSIDE)).any() or (high < -sides * OUTSIDE).any():
        raise DataError(
            f"{where}: the region from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) "
            f"lies outside the image of "
            f"{width} x {height} pixels; was the image resized or turned after it was annotated?"
        )


def _fill(corners_N2: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool (H, W): pixels whose centre lies in the polygon (even-odd). An edge toggles all pixels
    to its right."""
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    for (x0, y0), (x1, y1) in zip(corners_N2, np.roll(corners_N2, -1, axis=0)):
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            toggles[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= 1
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def unpack_runs(text: str) -> list[int]:
    """COCO's compressed run lengths: base 32 with a sign, differences to the run two before."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more and position < len(text):
            digit = ord(text[position]) - 48
            value |= (digit & 0x1F) << shift
            more, shift, position = bool(digit & 0x20), shift + 5, position + 1
            if not more and digit & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
