"""FGVC-Aircraft (Maji et al. 2013), as fgvc-aircraft-2013b.tar.gz unpacks: data/images,
data/images_LEVEL_SPLIT.txt, data/images_box.txt, data/variants.txt, families.txt,
manufacturers.txt.

The lowest 20 rows of every image hold a caption; they are cut off where an image is decoded, so
discovery, training and evaluation see the same pixels. Splits are the official ones: train, val,
trainval, test; fit is train. Published linear figures train on trainval.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_parts.data.sets.archive import Published, find_root, read_lines, read_rows, read_table
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import ConfigError, DataError

LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
BANNER = 20


class Aircraft(ListedImages):
    """FGVC-Aircraft; a `PartsDataset` with boxes.

    Args:
        root: the unpacked archive, its folder data/, or the folder around it.
        split: train (3,334), val (3,333), trainval (6,667) or test (3,333).
        level: variant (100 classes), family (70) or manufacturer.
        allow_partial: use a copy with fewer images.

    Raises:
        ConfigError: an unknown level.
        DataError: lists missing or damaged, a partial copy that was not allowed, an image no
            higher than its banner.
    """

    name = "aircraft"
    published = Published(
        images=10_000, classes=100, splits={"train": 3_334, "val": 3_333, "test": 3_333}
    )

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        level: str = "variant",
        allow_partial: bool = False,
    ) -> None:
        if level not in LEVELS:
            raise ConfigError(f"data.level={level!r} is unknown; choose one of {', '.join(LEVELS)}")
        marks = [
            "images",
            LEVELS[level],
            *(f"images_{level}_{s}.txt" for s in self.published.splits),
        ]
        root = find_root(self.name, root, marks, ("data", "fgvc-aircraft-2013b/data"))
        super().__init__(_list(root, level), self.published, split, allow_partial)

    def image(self, i: int) -> Tensor:
        return cut_banner(super().image(i), BANNER, self.paths[i])


def cut_banner(image_CHW: Tensor, rows: int, path: str) -> Tensor:
    """An image without its lowest rows.

    Raises:
        DataError: nothing would be left.
    """
    if image_CHW.shape[-2] <= rows:
        raise DataError(
            f"{path} is {image_CHW.shape[-2]} pixels high, no higher than the caption of {rows} rows"
        )
    return image_CHW[..., :-rows, :]


def _list(root: Path, level: str) -> Listing:
    classes = read_lines(root / LEVELS[level])
    number = {name: i for i, name in enumerate(classes)}
    keys, labels, splits = [], [], []
    for split in Aircraft.published.splits:
        for key, name in read_rows(root / f"images_{level}_{split}.txt", 2):
            if name not in number:
                raise DataError(
                    f"images_{level}_{split}.txt: image {key} is a {name!r}, which {LEVELS[level]} has not"
                )
            keys.append(key)
            labels.append(number[name])
            splits.append(split)
    boxes = (
        read_table(root / "images_box.txt", 5, float) if (root / "images_box.txt").exists() else {}
    )
    box_N4 = np.array([boxes.get(key, [np.nan] * 4) for key in keys], dtype=np.float64).reshape(
        -1, 4
    )
    box_N4[:, :2] -= 1  # the list counts from 1 and includes the last pixel
    return Listing(
        root, [f"images/{key}.jpg" for key in keys], labels, splits, classes, keys, box_N4
    )
