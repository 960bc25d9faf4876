"""Oxford-IIIT Pet (Parkhi et al. 2012), as images.tar.gz and annotations.tar.gz unpack: images/,
and annotations/ with trainval.txt, test.txt and trimaps/. `part_mask` is the pet (id 1); the
trimap's unclassified outline counts as background.
"""

from pathlib import Path

import torch

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.archive import Published, find_root, inside, read_rows
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError


class Pets(ListedImages):
    """Oxford-IIIT Pet; a `PartsDataset` with 37 breeds and the pet's mask.

    Args:
        root: the folder that holds images/ and annotations/, or the folder around it.
        split: train (= the official trainval, 3,680), test (3,669), fit and val (a seeded cut of
            train).
        allow_partial: use a copy with fewer images.
        seed: of the cut.

    Raises:
        DataError: lists missing or damaged, or a partial copy that was not allowed.
    """

    name = "pets"
    published = Published(images=7_349, classes=37, splits={"train": 3_680, "test": 3_669})

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        marks = ("images", "annotations/trainval.txt", "annotations/test.txt")
        root = find_root(self.name, root, marks, ("oxford-iiit-pet",))
        super().__init__(_list(root), self.published, split, allow_partial, seed)
        self._trimaps = root / "annotations/trimaps"
        self.part_names = ["pet"] if self._trimaps.is_dir() else []

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        if not self.part_names:
            return {}
        trimap = decode_mask(inside(self._trimaps, f"{self.keys[i]}.png", "the list of pets"))
        return {"part_mask": (trimap == 1).to(torch.uint8)}


def _list(root: Path) -> Listing:
    keys, labels, splits, names = [], [], [], {}
    for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
        for key, label, *_ in read_rows(root / "annotations" / file, 4):
            if not label.isdigit() or int(label) < 1:
                raise DataError(
                    f"annotations/{file}: image {key} has class {label!r}; classes count from 1"
                )
            keys.append(key)
            labels.append(int(label))
            splits.append(split)
            names.setdefault(int(label), key.rpartition("_")[0])
    order = {label: i for i, label in enumerate(sorted(names))}
    return Listing(
        root=root / "images",
        paths=[f"{key}.jpg" for key in keys],
        labels=[order[label] for label in labels],
        splits=splits,
        classes=[names[label] for label in order],
        keys=keys,
    )
