"""CUB-200-2011 (Wah et al. 2011), as CUB_200_2011.tgz unpacks: images.txt, image_class_labels.txt,
train_test_split.txt, classes.txt, bounding_boxes.txt, parts/, images/; and segmentations/ of the second archive where
it lies in or beside that folder.

Boxes and keypoints are in the pixels of the stored image, as published. `part_mask` is the bird (id 1), where at least
half of the annotators marked it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.archive import Census, Published, find_root, missing_files, read_rows, read_table, require_complete
from ssl_parts.data.decode import decode_mask
from ssl_parts.data.image_files import ImageFiles
from ssl_parts.data.splits import choose_split
from ssl_parts.errors import DataError

PUBLISHED = Published(images=11_788, classes=200, splits={"train": 5_994, "test": 5_794})
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")


class CUB(ImageFiles):
    """CUB-200-2011; a `PartsDataset` with species, boxes, 15 keypoints, and the bird's mask where it is there.

    Args:
        root: the unpacked archive or the folder around it.
        split: train (5,994), test (5,794), fit and val (a seeded cut of train), or trainval (= train).
        allow_partial: use a copy with fewer images.
        seed: of the cut into fit and val.

    Raises:
        DataError: lists missing or damaged, or a partial copy that was not allowed.
    """

    name = "cub"

    def __init__(
        self, root: str | Path | None, split: str = "train", allow_partial: bool = False, seed: int = 0
    ) -> None:
        root = find_root(self.name, root, LISTS, ("CUB_200_2011",))
        images = {key: path for key, path in read_rows(root / "images.txt", 2)}
        labels = _column(root / "image_class_labels.txt", images)
        is_train = _column(root / "train_test_split.txt", images)
        missing = set(missing_files(root / "images", images.values()))
        require_complete(self.name, Census(root, len(images), sorted(missing), PUBLISHED), allow_partial)

        class_ids = [row[0] for row in read_rows(root / "classes.txt", 2)]
        number = {int(key): i for i, key in enumerate(class_ids)}
        keys = [key for key, path in images.items() if path not in missing]
        paths = [images[key] for key in keys]
        try:
            label_N = np.array([number[labels[key]] for key in keys], dtype=np.int64)
        except KeyError as error:
            raise DataError(
                f"{root}/image_class_labels.txt names class {error}, which classes.txt does not have"
            ) from None
        train_N = np.array([is_train[key] == 1 for key in keys], dtype=bool)
        official = {"train": np.flatnonzero(train_N), "test": np.flatnonzero(~train_N)}
        rows = choose_split(self.name, split, official, label_N, paths, seed)

        super().__init__(
            split,
            root / "images",
            [paths[i] for i in rows],
            label_N[rows],
            [row[1] for row in read_rows(root / "classes.txt", 2)],
            Census(root, len(images), sorted(missing), PUBLISHED),
        )
        self._keys = [keys[i] for i in rows]
        self._boxes = (
            read_table(root / "bounding_boxes.txt", 5, float) if (root / "bounding_boxes.txt").exists() else {}
        )
        self._read_keypoints(root / "parts")
        self._masks = next((p for p in (root / "segmentations", root.parent / "segmentations") if p.is_dir()), None)
        self.part_names = ["bird"] if self._masks is not None else []

    def _read_keypoints(self, folder: Path) -> None:
        self._keypoints: dict[str, np.ndarray] = {}
        if not (folder / "part_locs.txt").exists():
            return
        names = read_table(folder / "parts.txt", 2)
        self.keypoint_names = [names[key][0] for key in sorted(names, key=int)]
        place = {key: i for i, key in enumerate(sorted(names, key=int))}
        wanted = set(self._keys)
        for image, part, x, y, visible in read_rows(folder / "part_locs.txt", 5):
            if image in wanted:
                points = self._keypoints.setdefault(image, np.zeros((len(place), 3), dtype=np.float32))
                try:
                    points[place[part]] = float(x), float(y), float(visible)
                except (KeyError, ValueError) as error:
                    raise DataError(f"{folder}/part_locs.txt, image {image} part {part}: {error}") from error

    def annotations(self, i: int, height: int, width: int) -> dict[str, object]:
        key = self._keys[i]
        known: dict[str, object] = {}
        if key in self._boxes:
            x, y, w, h = self._boxes[key]
            known["box"] = (x, y, x + w, y + h)
        if key in self._keypoints:
            known["keypoints"] = torch.from_numpy(self._keypoints[key].copy())
        if self._masks is not None:
            known["part_mask"] = self._mask(i)
        return known

    def _mask(self, i: int) -> Tensor:
        path = self._masks / Path(self.paths[i]).with_suffix(".png")
        return (decode_mask(path) > 127).to(torch.uint8)


def _column(path: Path, keys: dict[str, str]) -> dict[str, int]:
    """The second field of each row as a number.

    Raises:
        DataError: an image of images.txt without a row.
    """
    table = read_table(path, 2, int)
    lacking = [key for key in keys if key not in table]
    if lacking:
        raise DataError(f"{path} has no row for {len(lacking)} images of images.txt (first: image {lacking[0]})")
    return {key: table[key][0] for key in keys}
