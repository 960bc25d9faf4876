"""CUB-200-2011 (Wah et al. 2011), as CUB_200_2011.tgz unpacks: images.txt, image_class_labels.txt,
train_test_split.txt, classes.txt, bounding_boxes.txt, parts/, images/; and segmentations/ of the
second archive where it lies in or beside that folder.

Boxes and keypoints are in the pixels of the stored image, as published. `part_mask` is the bird
(id 1), where at least half of the annotators marked it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.archive import Published, find_root, read_rows, read_table
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")


class CUB(ListedImages):
    """CUB-200-2011; a `PartsDataset` with species, boxes, 15 keypoints, and the bird's mask where
    it is there.

    Args:
        root: the unpacked archive or the folder around it.
        split: train (5,994), test (5,794), fit and val (a seeded cut of train), or trainval (=
            train).
        allow_partial: use a copy with fewer images.
        seed: of the cut into fit and val.

    Raises:
        DataError: lists missing or damaged, or a partial copy that was not allowed.
    """

    name = "cub"
    published = Published(images=11_788, classes=200, splits={"train": 5_994, "test": 5_794})
    inner: tuple[str, ...] = ("CUB_200_2011",)
    all_classes = True  # a class of classes.txt without images keeps its number

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        root = find_root(self.name, root, LISTS, self.inner)
        super().__init__(self._list(root), self.published, split, allow_partial, seed)
        self._keypoints = self._read_keypoints(root / "parts")
        self._masks = next(
            (p for p in (root / "segmentations", root.parent / "segmentations") if p.is_dir()), None
        )
        self.part_names = ["bird"] if self._masks is not None else []

    def _list(self, root: Path) -> Listing:
        images = {key: path for key, path in read_rows(root / "images.txt", 2)}
        labels = _column(root / "image_class_labels.txt", images)
        is_train = _column(root / "train_test_split.txt", images)
        names = {int(key): name for key, name in read_rows(root / "classes.txt", 2)}
        used = set(labels.values())
        if not used <= set(names):
            lacking = min(used - set(names))
            raise DataError(
                f"{root}/image_class_labels.txt names class {lacking}, which classes.txt does not have"
            )
        number = {key: i for i, key in enumerate(names if self.all_classes else sorted(used))}
        keys, file = list(images), root / "bounding_boxes.txt"
        rows = read_table(file, 5, float) if file.exists() else {}
        boxes = np.array([rows.get(key, [np.nan] * 4) for key in keys], dtype=np.float64).reshape(
            -1, 4
        )
        boxes[:, 2:] += boxes[:, :2]
        return Listing(
            root=root / "images",
            paths=list(images.values()),
            labels=[number[labels[key]] for key in keys],
            splits=["train" if is_train[key] == 1 else "test" for key in keys],
            classes=[names[key] for key in number],
            keys=keys,
            boxes=boxes,
        )

    def _read_keypoints(self, folder: Path) -> dict[str, np.ndarray]:
        """Image key → float32 (P, 3); also sets `keypoint_names`."""
        if not (folder / "part_locs.txt").exists():
            return {}
        names = read_table(folder / "parts.txt", 2)
        place = {key: i for i, key in enumerate(sorted(names, key=int))}
        self.keypoint_names = [names[key][0] for key in place]
        wanted, known = set(self.keys), {}
        for image, part, x, y, visible in read_rows(folder / "part_locs.txt", 5):
            if image in wanted:
                points = known.setdefault(image, np.zeros((len(place), 3), dtype=np.float32))
                try:
                    points[place[part]] = float(x), float(y), float(visible)
                except (KeyError, ValueError) as error:
                    raise DataError(
                        f"{folder}/part_locs.txt, image {image}, part {part}: {error}"
                    ) from error
        return known

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        known: Annotations = {"box": self.box(i, height, width)}
        if self.keys[i] in self._keypoints:
            known["keypoints"] = torch.from_numpy(self._keypoints[self.keys[i]].copy())
        if self._masks is not None:
            known["part_mask"] = _read_mask(self._masks / Path(self.paths[i]).with_suffix(".png"))
        return known


def _read_mask(path: Path) -> Tensor:
    return (decode_mask(path) > 127).to(torch.uint8)


def _column(path: Path, keys: dict[str, str]) -> dict[str, int]:
    """The second field of each row as a number.

    Raises:
        DataError: an image of images.txt without a row.
    """
    table = read_table(path, 2, int)
    lacking = [key for key in keys if key not in table]
    if lacking:
        raise DataError(
            f"{path} has no row for {len(lacking)} images of images.txt (first: image {lacking[0]})"
        )
    return {key: table[key][0] for key in keys}
