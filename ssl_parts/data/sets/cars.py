"""Stanford Cars (Krause et al. 2013), in the layouts that circulate:

the devkit   cars_train/, cars_test/, devkit/cars_meta.mat, devkit/cars_train_annos.mat, and
             cars_test_annos_withlabels.mat beside or in devkit/ (cars_test_annos.mat has no
             labels: -1); the folders may be doubled, cars_train/cars_train/, as Kaggle has them
one list     car_ims/, cars_annos.mat
folders      train/CLASS/*.jpg and test/CLASS/*.jpg, also below car_data/, with boxes in anno_train.csv, anno_test.csv
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from ssl_parts.data.sets.archive import Published, find_root, list_folder, open_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.mat import read_mat
from ssl_parts.data.sets.text import read_text
from ssl_parts.data.sets.tree import list_images
from ssl_parts.errors import DataError

INNER = ("stanford_cars", "stanford-cars", "cars", "car_data", "car_data/car_data")
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


class Cars(ListedImages):
    """Stanford Cars; a `PartsDataset` with boxes.

    Args:
        root: the folder of one of the layouts above, or the folder around it.
        split: train (8,144), test (8,041), fit and val (a seeded cut of train), or trainval (=
            train).
        allow_partial: use a copy with fewer images.
        seed: of the cut.

    Raises:
        DataError: none of the layouts, damaged annotations, or a partial copy that was not
            allowed.
    """

    name = "cars"
    published = Published(images=16_185, classes=196, splits={"train": 8_144, "test": 8_041})

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        place = open_root(self.name, root)
        super().__init__(_list(place), self.published, split, allow_partial, seed)


def _list(root: Path) -> Listing:
    """The first layout that is there."""
    for marks, read in LAYOUTS:
        try:
            place = find_root(Cars.name, root, marks, INNER)
        except DataError:
            continue
        try:
            return read(place)
        except DataError:
            raise
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DataError(
                f"{place}: the annotations of Stanford Cars are damaged ({error})"
            ) from error
    raise DataError(_no_layout(root))


def _no_layout(root: Path) -> str:
    layouts = "; ".join(" and ".join(marks) for marks, _ in LAYOUTS)
    images = [folder for folder in ("cars_train", "cars_test") if (root / folder).is_dir()]
    lacks = (
        f"; {' and '.join(images)} need devkit/ (cars_devkit.tgz), which is not there"
        if images
        else ""
    )
    return (
        f"cars: {root} has none of the layouts of Stanford Cars (looked for {layouts}){lacks}; it holds "
        f"{list_folder(root)}"
    )


def _devkit(root: Path) -> Listing:
    classes = read_mat(root / "devkit/cars_meta.mat", "class_names")[0]
    tests = [
        root / "cars_test_annos_withlabels.mat",
        root / "devkit/cars_test_annos_withlabels.mat",
    ]
    test = next((path for path in tests if path.is_file()), root / "devkit/cars_test_annos.mat")
    paths, labels, splits, boxes = [], [], [], []
    for split, file in (("train", root / "devkit/cars_train_annos.mat"), ("test", test)):
        rows = _structures(file, ("fname", *BOX))
        paths += [f"{_image_folder(root, split)}/{row['fname']}" for row in rows]
        labels += [int(row.get("class", 0)) - 1 for row in rows]
        splits += [split] * len(rows)
        boxes += [[float(row[field]) for field in BOX] for row in rows]
    remarks = (
        []
        if test in tests
        else [f"{test.name} has no labels: fetch {tests[0].name} and put it here"]
    )
    return Listing(
        root,
        paths,
        _checked(labels, classes, root),
        splits,
        classes,
        boxes=_from_one(boxes),
        remarks=remarks,
    )


def _image_folder(root: Path, split: str) -> str:
    """cars_SPLIT, or the folder of the same name in it."""
    folder = f"cars_{split}"
    return f"{folder}/{folder}" if (root / folder / folder).is_dir() else folder


def _one_list(root: Path) -> Listing:
    classes = read_mat(root / "cars_annos.mat", "class_names")[0]
    rows = _structures(root / "cars_annos.mat", ("relative_im_path", "class", "test", *BOX))
    boxes = [[float(row[field]) for field in BOX] for row in rows]
    labels = _checked([int(row["class"]) - 1 for row in rows], classes, root)
    splits = ["test" if int(row["test"]) else "train" for row in rows]
    paths = [str(row["relative_im_path"]) for row in rows]
    return Listing(root, paths, labels, splits, classes, boxes=_from_one(boxes))


def _folders(root: Path) -> Listing:
    paths = [
        path
        for path in list_images(root)
        if path.startswith(("train/", "test/")) and path.count("/") >= 2
    ]
    names = [path.split("/")[1] for path in paths]
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    splits = [path.split("/")[0] for path in paths]
    known = {split: _csv_boxes(root, split) for split in ("train", "test")}
    boxes = [
        known[split].get(path.rsplit("/", 1)[1], [np.nan] * 4) for path, split in zip(paths, splits)
    ]
    return Listing(
        root, paths, [number[name] for name in names], splits, classes, boxes=_from_one(boxes)
    )


LAYOUTS = (
    (("devkit/cars_train_annos.mat", "devkit/cars_meta.mat", "cars_train"), _devkit),
    (("cars_annos.mat", "car_ims"), _one_list),
    (("train", "test"), _folders),
)


def _structures(file: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = read_mat(file, "annotations")[0]
    plain = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    lacking = (
        sorted({field for row in rows for field in fields if field not in row})
        if plain
        else list(fields)
    )
    if lacking:
        raise DataError(f"{file}: annotations have no field {', '.join(lacking)}")
    return rows


def _checked(labels: list[int], classes: list[str], root: Path) -> list[int]:
    if labels and max(labels) >= len(classes):
        raise DataError(
            f"{root}: an image of class {max(labels) + 1}, but cars_meta.mat names {len(classes)} classes"
        )
    return labels


def _from_one(boxes: list[list[float]]) -> np.ndarray:
    """Boxes that count pixels from 1 and include the last one, as ours."""
    box_N4 = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    box_N4[:, :2] -= 1
    return box_N4


def _csv_boxes(root: Path, split: str) -> dict[str, list[float]]:
    """File name → x1, y1, x2, y2 from anno_SPLIT.csv in root or one of the two folders around it;
    {} without one.
    """
    for folder in (root, root.parent, root.parent.parent):
        file = folder / f"anno_{split}.csv"
        if file.is_file():
            try:
                rows = list(csv.reader(io.StringIO(read_text(file)[0], newline="")))
                return {
                    row[0]: [float(value) for value in row[1:5]] for row in rows if len(row) >= 5
                }
            except (ValueError, csv.Error) as error:
                raise DataError(f"{file}: {error}; rows are name, x1, y1, x2, y2, class") from error
    return {}
