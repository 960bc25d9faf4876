"""The square that an image is seen in. One `Square` moves the image, its box, mask and keypoints,
so they stay aligned.

Legend: H, W source pixels; S side of the square. Coordinates have (0, 0) at the outer corner of
the first pixel.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.data.config import Fit
from ssl_parts.data.records import Sample
from ssl_parts.errors import DataError

CROP_SHARE = 0.875  # docs/method.md, section 1.6


@dataclass(frozen=True)
class Square:
    """A window of the source (x0, y0, width, height) shown in a place (left, top, columns, rows)
    of a size² square.
    """

    size: int
    x0: int
    y0: int
    width: int
    height: int
    left: int
    top: int
    columns: int
    rows: int

    @staticmethod
    def of(height: int, width: int, size: int, fit: Fit | str) -> "Square":
        """The square of an image of this height and width."""
        fit = Fit.of(fit)
        if fit is Fit.squash:
            return Square(size, 0, 0, width, height, 0, 0, size, size)
        if fit is Fit.pad:
            columns, rows = (
                max(1, round(size * side / max(width, height))) for side in (width, height)
            )
            return Square(
                size, 0, 0, width, height, (size - columns) // 2, (size - rows) // 2, columns, rows
            )
        side = max(1, round((CROP_SHARE if fit is Fit.crop else 1.0) * min(width, height)))
        return Square(size, (width - side) // 2, (height - side) // 2, side, side, 0, 0, size, size)

    def points(self, points_N2: Tensor) -> Tensor:
        """x, y of the source to x, y of the square; points outside stay outside."""
        scale = points_N2.new_tensor([self.columns / self.width, self.rows / self.height])
        return (
            points_N2 - points_N2.new_tensor([self.x0, self.y0])
        ) * scale + points_N2.new_tensor([self.left, self.top])

    def image(self, image_CHW: Tensor) -> Tensor:
        """Antialiased bilinear resize; uint8 (3, S, S)."""
        window = image_CHW[:, self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width]
        if (self.rows, self.columns) != window.shape[1:]:
            # the fast path for uint8
            channels_last = window[None].contiguous(memory_format=torch.channels_last)
            shape = (self.rows, self.columns)
            window = F.interpolate(
                channels_last, shape, mode="bilinear", antialias=True, align_corners=False
            )[0]
        if (self.rows, self.columns) == (self.size, self.size):
            return window.contiguous()
        mean_C = image_CHW.float().mean((1, 2)).round().to(torch.uint8)
        square = mean_C[:, None, None].repeat(1, self.size, self.size)
        square[:, self.top : self.top + self.rows, self.left : self.left + self.columns] = window
        return square

    def mask(self, mask_HW: Tensor) -> Tensor:
        """The nearest source pixel of each pixel's centre; zero in a letterbox. Takes (H, W) and
        (P, H, W).
        """
        y = self.y0 + _nearest(self.rows, self.height)
        x = self.x0 + _nearest(self.columns, self.width)
        square = mask_HW.new_zeros(*mask_HW.shape[:-2], self.size, self.size)
        seen = mask_HW[..., y[:, None], x[None, :]]
        square[..., self.top : self.top + self.rows, self.left : self.left + self.columns] = seen
        return square

    def box(
        self, box: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float] | None:
        """The part of a box that is seen; None where nothing of it is."""
        corners = self.points(torch.tensor(box, dtype=torch.float64).reshape(2, 2))
        low, high = self._frame(corners)
        x0, y0, x1, y1 = torch.minimum(torch.maximum(corners, low), high).flatten().tolist()
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def keypoints(self, keypoints_P3: Tensor) -> Tensor:
        """Moved keypoints; one outside the square, or not visible before, is (0, 0, 0)."""
        moved = self.points(keypoints_P3[:, :2])
        low, high = self._frame(moved)
        seen = (keypoints_P3[:, 2] > 0) & ((moved >= low) & (moved < high)).all(1)
        points = torch.cat([moved, torch.ones_like(moved[:, :1])], 1)
        return torch.where(seen[:, None], points, torch.zeros_like(points))

    def _frame(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low = like.new_tensor([self.left, self.top])
        return low, low + like.new_tensor([self.columns, self.rows])


def resize_mask(mask_HW: Tensor, height: int, width: int) -> Tensor:
    """A mask at another size, the nearest id at each pixel's centre."""
    if mask_HW.shape == (height, width):
        return mask_HW
    y, x = _nearest(height, mask_HW.shape[0]), _nearest(width, mask_HW.shape[1])
    return mask_HW[y[:, None], x[None, :]]


def same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two sizes differ by a factor alone, up to the rounding of one pixel."""
    return abs(first[0] * second[1] - first[1] * second[0]) <= max(*first, *second)


def _nearest(target: int, source: int) -> Tensor:
    """Index (target,) of the source pixel below the centre of each target pixel."""
    return ((torch.arange(target) + 0.5) * (source / target)).long().clamp_max(source - 1)


def fit_image(image_CHW: Tensor, size: int, fit: Fit | str) -> Tensor:
    """An image of any size as uint8 (3, size, size)."""
    height, width = image_CHW.shape[-2:]
    return Square.of(height, width, size, fit).image(image_CHW)


def fit_sample(sample: Sample, size: int, fit: Fit | str) -> Sample:
    """Image, box, mask and keypoints of a sample in one square.

    Raises:
        DataError: a mask of another size than its image.
    """
    height, width = sample.image.shape[-2:]
    if sample.part_mask is not None and tuple(sample.part_mask.shape[-2:]) != (height, width):
        seen = " x ".join(map(str, np.array(sample.part_mask.shape[-2:])[::-1]))
        raise DataError(
            f"{sample.path}: the image is {width} x {height}, its part mask {seen} pixels; they must be equal"
        )
    square = Square.of(height, width, size, fit)
    return replace(
        sample,
        image=square.image(sample.image),
        box=None if sample.box is None else square.box(sample.box),
        part_mask=None if sample.part_mask is None else square.mask(sample.part_mask),
        keypoints=None if sample.keypoints is None else square.keypoints(sample.keypoints),
    )
