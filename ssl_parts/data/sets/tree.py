"""A walk through a folder: which files are images, and what is passed over."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ssl_parts.data.index_cache import (
    index_file,
    load_index,
    pack_names,
    save_index,
    unpack_names,
)
from ssl_parts.data.sets.remarks import counted, first_of, tallied
from ssl_parts.errors import DataError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm",
    ".pgm", ".avif",
)  # fmt: skip
# what lies beside images as a rule and is none
SIDECARS = (
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".htm",
    ".log", ".ini", ".db", ".mat", ".npy", ".npz", ".pkl", ".h5", ".py", ".ipynb", ".url", ".lnk",
    ".sha256", ".md5", ".cls",
)  # fmt: skip
# folders of operating systems and network disks that hold thumbnails or deleted files
SYSTEM = (
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "lost+found",
    "$recycle.bin", "system volume information", "__pycache__",
)  # fmt: skip
VERSION = 2  # of the kept list
LARGE = 5_000  # images from which on it is kept
SETTLED = 3 * 10**9  # nanoseconds that a folder must be left alone: network disks are coarse


@dataclass(frozen=True)
class Tree:
    """What is below a folder.

    images: relative to it, sorted. folders: those that were read, root as '.'. others: number of
    files of each other suffix, '' without one. passed: folders of the system that were not
    entered.
    """

    images: list[str]
    folders: list[str]
    others: dict[str, int] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)

    @property
    def bare(self) -> list[str]:
        """Folders without any image at any depth, the topmost of each branch."""
        full = {"."}
        for folder in {image.rpartition("/")[0] for image in self.images}:
            while folder and folder not in full:
                full.add(folder)
                folder = folder.rpartition("/")[0]
        return [f for f in self.folders if f not in full and (f.rpartition("/")[0] or ".") in full]

    def remarks(self) -> list[str]:
        """What was passed over and looks as if it had been meant to be seen, as sentences."""
        said = []
        odd = {s or "without suffix": n for s, n in self.others.items() if s not in SIDECARS}
        if odd:
            number = sum(odd.values())
            said.append(
                f"{counted(number, 'file is', 'files are')} left out, by suffix: {tallied(odd)} "
                f"(read are {', '.join(SUFFIXES)}; convert what should be seen)"
            )
        if self.images and self.bare:
            said.append(f"no image in {first_of(f'{folder}/' for folder in self.bare)}")
        if self.passed:
            said.append(f"system folders are not entered: {first_of(self.passed)}")
        return said


def list_images(root: Path) -> list[str]:
    """Image files below root, relative, sorted; see `read_tree`."""
    return read_tree(root).images


def read_tree(root: Path) -> Tree:
    """Walk below root; links to folders are followed once, hidden files and folders passed over.

    The result for a large folder is kept (see `index_cache`) and used while no folder in it
    changed.

    Raises:
        DataError: a folder that cannot be read.
    """
    file = index_file("folder", f"{VERSION} {root.resolve()}")
    kept = load_index(file)
    if kept is not None and _unchanged(root, kept):
        others = dict(zip(unpack_names(kept["suffixes"]), kept["numbers"].tolist()))
        passed = unpack_names(kept["passed"])
        return Tree(unpack_names(kept["images"]), unpack_names(kept["folders"]), others, passed)
    tree = walk(root)
    if len(tree.images) >= LARGE:
        _keep(file, root, tree)
    return tree


def walk(root: Path) -> Tree:
    """Look at every folder below root, whatever is kept."""
    images, folders, others, passed = [], [], Counter(), []
    for prefix, files in visit(root, passed):
        folders.append(prefix.as_posix())
        found = [f for f in files if f.lower().endswith(SUFFIXES)]
        images += [(prefix / f).as_posix() for f in found]
        others.update(suffix_of(f) for f in set(files).difference(found))
    return Tree(sorted(images), folders, dict(others), sorted(passed))


def visit(root: Path, passed: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """(folder relative to root, its files) of every folder, without what is hidden.

    Args:
        passed: system folders that are not entered are added to it.

    Raises:
        DataError: a folder that cannot be read.
    """
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        prefix = Path(folder).relative_to(root)
        passed += [(prefix / f).as_posix() for f in folders if f.lower() in SYSTEM]
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        yield prefix, [f for f in files if not is_hidden(f)]


def is_hidden(name: str) -> bool:
    """Hidden, or a folder of the system."""
    return name.startswith(".") or name.lower() in SYSTEM


def suffix_of(name: str) -> str:
    """The suffix in lower case, '' without one."""
    return os.path.splitext(name)[1].lower()


def _refuse(error: OSError) -> None:
    raise DataError(
        f"cannot read the folder {error.filename} ({error.strerror}); mend its permissions, or "
        f"move "
        "it out of data.root"
    ) from error


def _keep(file: Path, root: Path, tree: Tree) -> None:
    times = [(root / folder).stat().st_mtime_ns for folder in tree.folders]
    if max(times) < time.time_ns() - SETTLED:
        arrays = {
            "images": pack_names(tree.images),
            "folders": pack_names(tree.folders),
            "times": np.array(times, dtype=np.int64),
            "suffixes": pack_names(list(tree.others)),
            "numbers": np.array(list(tree.others.values()), dtype=np.int64),
            "passed": pack_names(tree.passed),
        }
        save_index(file, arrays)


def _unchanged(root: Path, kept: dict[str, np.ndarray]) -> bool:
    """A folder's time changes when a file in it comes or goes."""
    try:
        folders = unpack_names(kept["folders"])
        times = [(root / folder).stat().st_mtime_ns for folder in folders]
        return np.array_equal(times, kept["times"])
    except (OSError, KeyError, ValueError):
        return False
