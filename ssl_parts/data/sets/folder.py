"""A folder of images: unlabelled, or one folder a class, nested to any depth; `train/`, `val/` and
`test/` are splits where they are there, in any spelling. Your own photographs, Stanford Cars as
class folders, Oxford 17 Flowers, ImageNet's layout. `layout` says what is taken for what.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_parts.data.sets.archive import Census, find_root
from ssl_parts.data.sets.image_files import ImageFiles
from ssl_parts.data.sets.label_table import read_labels
from ssl_parts.data.sets.layout import Layout, read_layout
from ssl_parts.data.sets.remarks import tallied
from ssl_parts.data.sets.splits import choose_split, cut
from ssl_parts.data.sets.tree import SUFFIXES, Tree, read_tree
from ssl_parts.errors import ConfigError, DataError

TABLE = "labels.csv"  # classes of images that lie in no class folders
PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")


class Folder(ImageFiles):
    """Images below a folder, in sorted order; hidden files and folders are passed over.

    The class of an image is its first folder (below the split's folder where there are some). A
    folder whose images lie directly in it, or all in one folder, has the classes of its labels.csv,
    or none. What is left out
    or taken for something is in `remarks`.

    Args:
        root: the folder.
        split: train, test, fit, val or trainval. Without split folders all images are train.
        labelled: false ignores class folders and labels.csv.
        test_share: cuts this share of each class off as test, by a seeded draw, where there is no
            test folder.
        seed: of the cuts.

    Raises:
        ConfigError: a split that is not there, a share outside [0, 1).
        DataError: no such folder, one that cannot be read, no image in it, folders that could mean
            two things.
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
        tree = read_tree(root)
        if not tree.images:
            raise DataError(
                f"data.root={root} holds no image{_instead(tree)} (looked for {', '.join(SUFFIXES)} at any depth)"
            )
        layout = _read_layout(root, tree, labelled)
        if labelled and not layout.classes and (root / TABLE).is_file():
            layout = _classes_of_table(layout, tree.images, root / TABLE)
        paths, labels, classes = _label(layout, tree.images)
        official, account = _official(layout, labels, paths, test_share, seed)
        if split == "test" and "test" not in official:
            val = (
                ", or report on validation images with data.test_split=val"
                if "val" in official
                else ""
            )
            raise ConfigError(
                f"{root} has no folder test/; cut a share of each class off with data.test_share=0.5{val}"
            )
        rows = choose_split(self.name, split, official, labels, paths, seed)
        census = Census(root, len(paths), [], None)
        super().__init__(split, root, [paths[i] for i in rows], labels[rows], classes, census)
        self.account = account
        for remark in (*layout.remarks, *tree.remarks()):
            self.remarks.say(f"{root}: {remark}")


def _read_layout(root: Path, tree: Tree, labelled: bool) -> Layout:
    try:
        return read_layout(tree.images, labelled)
    except DataError as error:
        raise DataError(f"data.root={root}: {error}") from error


def _classes_of_table(layout: Layout, images: list[str], table: Path) -> Layout:
    """The layout with the classes that labels.csv gives the images; DataError as `read_labels`."""
    kept = sorted(layout.splits)
    labels, remarks = read_labels(table, [images[i] for i in kept], below="")
    remarks = [f"classes are read from {TABLE}", *remarks]
    return replace(layout, classes=dict(zip(kept, labels)), remarks=[*layout.remarks, *remarks])


def _label(layout: Layout, images: list[str]) -> tuple[list[str], np.ndarray, list[str]]:
    """Paths and labels of the images that are in a split, and the classes."""
    classes = sorted(set(layout.classes.values()))
    index = {name: i for i, name in enumerate(classes)}
    kept = sorted(layout.splits)
    labels = [index[layout.classes[i]] if i in layout.classes else -1 for i in kept]
    return [images[i] for i in kept], np.array(labels, dtype=np.int64), classes


def _official(
    layout: Layout, labels: np.ndarray, paths: list[str], test_share: float, seed: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Split → its rows, and what was taken for what."""
    split_N = np.array([layout.splits[i] for i in sorted(layout.splits)], dtype=object)
    official = {name: np.flatnonzero(split_N == name) for name in layout.split_names}
    if "test" in official or test_share == 0:
        return official, layout.account
    train = official["train"]
    taken = cut(labels[train], [paths[i] for i in train], test_share, seed)
    official |= {"train": train[~taken], "test": train[taken]}
    share = f"split test: {int(taken.sum()):,} of these training images (data.test_share={test_share:g})"
    return official, [*layout.account, share]


def _instead(tree: Tree) -> str:
    """What is there where no image is."""
    if not tree.others:
        return ""
    named = tallied({suffix or "without suffix": number for suffix, number in tree.others.items()})
    return f", but {named}{'; unpack them first' if set(tree.others) & set(PACKED) else ''}"
