"""Oxford Flowers 102 (Nilsback & Zisserman 2008), as its files unpack: jpg/image_00001.jpg,
imagelabels.mat, setid.mat.

Splits are the official ones: train and val (1,020 each), trainval, test (6,149). Published linear
figures train on trainval.
"""

from pathlib import Path

import numpy as np
from torchvision.datasets import Flowers102 as TorchvisionFlowers

from ssl_parts.data.sets.archive import Published, find_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.mat import read_mat
from ssl_parts.errors import DataError

SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


class Flowers102(ListedImages):
    """Flowers 102; a `PartsDataset` with 102 classes.

    Args:
        root: the folder that holds jpg/ and the two .mat files, or the folder around it.
        split: train, val, trainval or test.
        allow_partial: use a copy with fewer images.

    Raises:
        DataError: lists missing or damaged, or a partial copy that was not allowed.
    """

    name = "flowers102"
    published = Published(
        images=8_189, classes=102, splits={"train": 1_020, "val": 1_020, "test": 6_149}
    )

    def __init__(
        self, root: str | Path | None, split: str = "train", allow_partial: bool = False
    ) -> None:
        marks = ("jpg", "imagelabels.mat", "setid.mat")
        root = find_root(self.name, root, marks, ("flowers-102", "flowers102"))
        super().__init__(_list(root), self.published, split, allow_partial)


def _list(root: Path) -> Listing:
    (labels,) = read_mat(root / "imagelabels.mat", "labels")
    ids = read_mat(root / "setid.mat", *SPLITS.values())
    ids = [np.atleast_1d(rows).tolist() for rows in ids]
    numbers = [int(number) for rows in ids for number in rows]
    labels = np.atleast_1d(labels)
    classes = list(TorchvisionFlowers.classes)
    if min(numbers, default=1) < 1 or max(numbers, default=0) > len(labels):
        raise DataError(
            f"{root}/setid.mat names image {max(numbers)}, but imagelabels.mat has {len(labels)} labels"
        )
    if not 1 <= labels.min() <= labels.max() <= len(classes):
        raise DataError(
            f"{root}/imagelabels.mat holds labels {labels.min()}..{labels.max()}, not 1..{len(classes)}"
        )
    return Listing(
        root=root / "jpg",
        paths=[f"image_{number:05d}.jpg" for number in numbers],
        labels=[int(labels[number - 1]) - 1 for number in numbers],
        splits=[split for split, rows in zip(SPLITS, ids) for _ in rows],
        classes=classes,
    )
