"""Your own part masks: images/ and masks/, one PNG of ids for each image, 0 background and 1..P
parts.

    images/NAME.jpg, masks/NAME.png          or the two below split folders: trainingset/images, testset/masks, ...
    classes.json                           {"0": "background", "1": "wing", ...}; or parts.txt, a name a line from id 1
    labels.csv                               NAME.jpg,label   (optional); else images/CLASS/NAME.jpg gives the class

Car-Parts-Segmentation (Pasupa et al. 2021) has this layout as it is published: `CarParts`.
"""

import csv
import json
from pathlib import Path

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.sets.archive import Published, find_root, missing_files, read_lines
from ssl_parts.data.sets.folder import SPLIT_FOLDERS, class_names, list_images
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError


class PartFolder(ListedImages):
    """Images with part masks from folders; a `PartsDataset`.

    Args:
        root: the folder described above.
        split: train, test, fit, val or trainval. Without split folders all images are train.
        allow_partial: use the images whose mask is there.
        seed: of the cut into fit and val.

    Raises:
        ConfigError: a split that is not there.
        DataError: folders missing, images without masks that were not allowed, a mask with ids
            that have no name.
    """

    name = "part_folder"
    published: Published | None = None
    marks: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        root = find_root(self.name, root, self.marks, self.inner)
        listing = _list(root, self.name, allow_partial)
        super().__init__(listing, self.published, split, allow_partial, seed)
        self.part_names = read_part_names(root) or self._count_parts()

    def annotations(self, i: int, height: int, width: int) -> dict[str, object]:
        mask = decode_mask(self.root / mask_path(self.paths[i]))
        if mask.numel() and int(mask.max()) > len(self.part_names):
            raise DataError(
                f"{self.root / mask_path(self.paths[i])} holds id {int(mask.max())}, but only ids "
                f"1..{len(self.part_names)} have names; add the name, or set such pixels to 0"
            )
        return {"part_mask": mask}

    def _count_parts(self) -> list[str]:
        """Without a list of names the masks are read once; parts are named by their ids."""
        self.part_names = [""] * 255
        highest = max(int(self.annotations(i, 0, 0)["part_mask"].max()) for i in range(len(self)))
        return [f"part {k}" for k in range(1, highest + 1)]


class CarParts(PartFolder):
    """Car-Parts-Segmentation (Pasupa et al. 2021): trainingset/ and testset/, classes.json, 18
    parts. Mirrored images swap left and right parts (`part_pairs`). Arguments and errors as
    `PartFolder`."""

    name = "carparts"
    published = Published(images=500, classes=0, splits={"train": 400, "test": 100})
    marks = ("trainingset/images", "testset/images")
    inner = ("Car-Parts-Segmentation", "carparts")


def mask_path(image_path: str) -> str:
    """images/NAME.jpg → masks/NAME.png, at any depth."""
    folders, _, name = image_path.partition("images/")
    return f"{folders}masks/{name.rpartition('.')[0]}.png"


def read_part_names(root: Path) -> list[str]:
    """Names of ids 1..P from classes.json or parts.txt; [] where there is neither.

    Raises:
        DataError: damaged list, ids that are not 1..P without a gap.
    """
    if (root / "parts.txt").is_file():
        return read_lines(root / "parts.txt")
    file = root / "classes.json"
    if not file.is_file():
        return []
    try:
        names = {int(key): str(name) for key, name in json.loads(file.read_text()).items()}
    except (ValueError, AttributeError, OSError) as error:
        raise DataError(
            f'{file}: expected {{"0": "background", "1": "first part", ...}} ({error})'
        ) from error
    names.pop(0, None)
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DataError(
            f"{file}: ids are {sorted(names)[:8]}; parts count from 1 without a gap, 0 is background"
        )
    return [names[k] for k in sorted(names)]


def _list(root: Path, name: str, allow_partial: bool) -> Listing:
    tops = {
        folder.name: SPLIT_FOLDERS[folder.name.lower()]
        for folder in root.iterdir()
        if _is_split(folder)
    }
    places = (
        {f"{top}/": split for top, split in sorted(tops.items())}
        if "train" in tops.values()
        else {"": "train"}
    )
    paths, splits = [], []
    for prefix, split in places.items():
        for folder in ("images", "masks"):
            if not (root / prefix / folder).is_dir():
                raise DataError(
                    f"{name}: no folder {root / prefix / folder}; it wants images/NAME.jpg and masks/NAME.png"
                )
        found = [f"{prefix}images/{path}" for path in list_images(root / prefix / "images")]
        paths += found
        splits += [split] * len(found)
    lacking = set(missing_files(root, [mask_path(path) for path in paths]))
    if lacking and not allow_partial:
        raise DataError(
            f"{name}: {len(lacking)} of {len(paths)} images in {root} have no mask (first: {min(lacking)}); use those "
            "that have with data.allow_partial=true"
        )
    keep = [i for i, path in enumerate(paths) if mask_path(path) not in lacking]
    paths, splits = [paths[i] for i in keep], [splits[i] for i in keep]
    labels, classes = _labels(root, paths)
    return Listing(root, paths, labels, splits, classes)


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_FOLDERS and folder.is_dir()


def _labels(root: Path, paths: list[str]) -> tuple[list[int], list[str]]:
    file = root / "labels.csv"
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as lines:
            given = {row[0]: row[1] for row in csv.reader(lines) if len(row) >= 2}
        names = [given.get(path.rpartition("images/")[2], "") for path in paths]
        if "" in names:
            raise DataError(
                f"{file} has no row for {paths[names.index('')]}; rows are NAME.jpg,label"
            )
    else:
        names = class_names([path.rpartition("images/")[2] for path in paths], {}) or []
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    return [number[name] for name in names] or [-1] * len(paths), classes
