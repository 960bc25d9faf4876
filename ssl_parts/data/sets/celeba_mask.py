"""CelebAMask-HQ (Lee et al. 2020), as CelebAMask-HQ.zip unpacks: CelebA-HQ-img/ID.jpg,
CelebAMask-HQ-mask-anno/FOLDER/ 00000_hair.png (one black and white PNG a part),
CelebA-HQ-to-CelebA-mapping.txt.

Splits follow CelebA's partition by the original image's number: train up to 162,770, val up to
182,637, then test.
"""

from pathlib import Path

import numpy as np
import torch

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.geometry import resize_mask
from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.archive import Published, find_root, read_rows
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError

# in the order of painting: what comes later covers what came before
PARTS = (
    "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth", "u_lip", "l_lip",
    "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
# numbers of CelebA's first validation and first test image
FIRST = {"val": 162_771, "test": 182_638}
A_FOLDER = 2_000  # images whose masks share a folder


class CelebAMask(ListedImages):
    """CelebAMask-HQ; a `PartsDataset` without classes, 18 parts. Masks are brought to the size of
    the image.

    Args:
        root: the unpacked archive or the folder around it.
        split: train (24,183), val (2,993), test (2,824), trainval.
        allow_partial: use the images that are there.

    Raises:
        DataError: the mapping missing or damaged, or a partial copy that was not allowed.
    """

    name = "celeba_mask"
    published = Published(
        images=30_000, classes=0, splits={"train": 24_183, "val": 2_993, "test": 2_824}
    )

    def __init__(
        self, root: str | Path | None, split: str = "train", allow_partial: bool = False
    ) -> None:
        marks = ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno", "CelebA-HQ-to-CelebA-mapping.txt")
        root = find_root(self.name, root, marks, ("CelebAMask-HQ",))
        super().__init__(_list(root), self.published, split, allow_partial)
        self._masks = root / "CelebAMask-HQ-mask-anno"
        self.part_names = list(PARTS)

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        number = int(self.keys[i])
        mask = np.zeros((height, width), dtype=np.uint8)
        for part, name in enumerate(PARTS, start=1):
            file = self._masks / str(number // A_FOLDER) / f"{number:05d}_{name}.png"
            if file.is_file():  # a part that is not seen has no file
                region = resize_mask(decode_mask(file), height, width)
                mask[region.numpy() > 0] = part
        return {"part_mask": torch.from_numpy(mask)}


def _list(root: Path) -> Listing:
    file = root / "CelebA-HQ-to-CelebA-mapping.txt"
    keys, splits = [], []
    for key, original, _ in read_rows(file, 3)[1:]:  # below a header
        if not key.isdigit() or not original.isdigit():
            raise DataError(f"{file}: row {key!r} {original!r} does not map a number to a number")
        keys.append(key)
        splits.append(
            "test"
            if int(original) >= FIRST["test"]
            else "val"
            if int(original) >= FIRST["val"]
            else "train"
        )
    return Listing(
        root / "CelebA-HQ-img", [f"{key}.jpg" for key in keys], [-1] * len(keys), splits, [], keys
    )
