"""What every data set hands out: one `Sample` an image, and the `PartsDataset` surface that the
rest of the code reads.

Coordinates are pixels of the image at hand, x to the right and y down, with (0, 0) at the outer
corner of the first pixel: the centre of pixel (row r, column c) is (c + 0.5, r + 0.5); a box over
the whole image is (0, 0, W, H).
"""

from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from torch import Tensor

IGNORE = 255  # id of mask pixels that are not judged
MAX_PARTS = 254  # ids are 8 bits: 0 is the background, 255 is not judged


@dataclass(frozen=True)
class Sample:
    """One decoded image and the annotations that its data set has; what it has not is None."""

    image: Tensor  # uint8 (3, H, W), RGB
    label: int | None  # class index; None where the set has none
    path: str  # stable identifier, for messages
    box: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 in pixels
    # uint8 (H, W): 0 background, 1..P parts, IGNORE; or (P, H, W) of 0/1 (multi-label)
    part_mask: Tensor | None = None
    keypoints: Tensor | None = None  # float32 (P, 3): x, y in pixels, visibility 0 or 1


class Annotations(TypedDict, total=False):
    """What is known of an image beside its label, as arguments of `Sample`."""

    box: tuple[float, float, float, float] | None
    part_mask: Tensor | None
    keypoints: Tensor | None


def without_ignored(mask: Tensor) -> Tensor:
    """Ids (H, W) with the pixels that are not judged as background; (P, H, W) of 0/1 as it is."""
    return mask if mask.ndim == 3 else torch.where(mask == IGNORE, torch.zeros_like(mask), mask)


@runtime_checkable
class PartsDataset(Protocol):
    """What `build_dataset` returns. `labels` and `paths` are known without decoding any image.

    Sets on disk also have `remarks` (`ssl_parts.data.sets.remarks.Remarks`: what was left out, taken
    for something or mended) and `account` (what was taken for what, a sentence a split).
    """

    name: str
    split: str
    classes: list[str]  # [] when unlabelled
    part_names: list[str]  # names of mask ids 1..P; [] when there are no masks
    keypoint_names: list[str]  # [] when there are no keypoints
    labels: np.ndarray  # int64 (N,), -1 where unlabelled
    paths: list[str]  # (N,)

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Sample: ...
