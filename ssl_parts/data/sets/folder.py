"""A folder of images: unlabelled, or one folder a class, nested to any depth; `train/`, `val/` and
`test/` are splits where they are there. Your own photographs, Stanford Cars as class folders,
Oxford 17 Flowers, ImageNet's layout.
"""

import os
import time
from pathlib import Path

import numpy as np

from ssl_parts.data.sets.archive import Census, find_root
from ssl_parts.data.sets.image_files import ImageFiles
from ssl_parts.data.sets.index_cache import (
    index_file,
    load_index,
    pack_names,
    save_index,
    unpack_names,
)
from ssl_parts.data.sets.splits import choose_split, cut
from ssl_parts.errors import ConfigError, DataError

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".avif",
)
VERSION = 1  # of the kept list
LARGE = 5_000  # images from which on it is kept
# nanoseconds that a folder must be left alone first: times on network disks are coarse
SETTLED = 3 * 10**9
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "trainingset"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


class Folder(ImageFiles):
    """Images below a folder, in sorted order; hidden files and folders are passed over.

    The class of an image is its first folder (below the split's folder where there are some). A
    folder whose images lie directly in it, or all in one folder, is unlabelled.

    Args:
        root: the folder.
        split: train, test, fit, val or trainval. Without split folders all images are train.
        labelled: false ignores class folders.
        test_share: cuts this share of each class off as test, by a seeded draw, where there is no
            test folder.
        seed: of the cuts.

    Raises:
        ConfigError: a split that is not there, a share outside [0, 1).
        DataError: no such folder, no image in it.
    """

    name = "folder"

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        labelled: bool = True,
        test_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= test_share < 1:
            raise ConfigError(f"data.test_share={test_share} must lie in [0, 1)")
        root = find_root(self.name, root, ())
        paths = list_images(root)
        if not paths:
            raise DataError(
                f"data.root={root} holds no image (looked for {', '.join(SUFFIXES)} at any depth)"
            )
        folders = split_folders(paths)
        names = class_names(paths, folders) if labelled else None
        classes = sorted(set(names)) if names is not None else []
        index = {name: i for i, name in enumerate(classes)}
        labels = np.array(
            [index[name] for name in names] if names is not None else [-1] * len(paths),
            dtype=np.int64,
        )
        official = _official(paths, folders, labels, test_share, seed)
        if split == "test" and "test" not in official:
            raise ConfigError(
                f"{root} has no folder test/; cut a share of each class off with data.test_share=0.5"
            )
        rows = choose_split(self.name, split, official, labels, paths, seed)
        census = Census(root, len(paths), [], None)
        super().__init__(split, root, [paths[i] for i in rows], labels[rows], classes, census)


def list_images(root: Path) -> list[str]:
    """Image files below root, relative, sorted; links to folders are followed once.

    The list of a large folder is kept (see `index_cache`) and used again while no folder in it has
    changed.
    """
    file = index_file("folder", f"{VERSION} {root.resolve()}")
    kept = load_index(file)
    if kept is not None and _unchanged(root, kept):
        return unpack_names(kept["images"])
    images, folders = _walk(root)
    if len(images) >= LARGE:
        times = np.array([(root / folder).stat().st_mtime_ns for folder in folders], dtype=np.int64)
        if times.max() < time.time_ns() - SETTLED:
            save_index(
                file, {"images": pack_names(images), "folders": pack_names(folders), "times": times}
            )
    return images


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """(images, sorted; folders that were read, root as '.')."""
    images, folders_read, seen = [], [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        prefix = Path(folder).relative_to(root)
        folders_read.append(prefix.as_posix())
        images += [
            (prefix / f).as_posix()
            for f in files
            if f.lower().endswith(SUFFIXES) and not f.startswith(".")
        ]
    return sorted(images), folders_read


def _unchanged(root: Path, kept: dict[str, np.ndarray]) -> bool:
    """A folder's time changes when a file in it comes or goes."""
    try:
        times = [(root / folder).stat().st_mtime_ns for folder in unpack_names(kept["folders"])]
    except OSError:
        return False
    return np.array_equal(times, kept["times"])


def split_folders(paths: list[str]) -> dict[str, str]:
    """Folder → split, where all images lie in folders that are named after splits and one of them
    is train.
    """
    tops = {path.split("/", 1)[0] if "/" in path else "" for path in paths}
    found = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    return found if len(found) == len(tops) and "train" in found.values() else {}


def class_names(paths: list[str], folders: dict[str, str]) -> list[str] | None:
    """The class folder of each image; None where images are not in at least two class folders."""
    below = [path.split("/", 1)[1] if folders else path for path in paths]
    if any("/" not in path for path in below):
        return None
    names = [path.split("/", 1)[0] for path in below]
    return names if len(set(names)) > 1 else None


def _official(
    paths: list[str], folders: dict[str, str], labels: np.ndarray, test_share: float, seed: int
) -> dict[str, np.ndarray]:
    if folders:
        split_N = np.array([folders[path.split("/", 1)[0]] for path in paths])
        return {split: np.flatnonzero(split_N == split) for split in sorted(set(folders.values()))}
    if test_share == 0:
        return {"train": np.arange(len(paths))}
    test = cut(labels, paths, test_share, seed)
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
