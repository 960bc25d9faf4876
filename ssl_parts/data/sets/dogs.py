"""Stanford Dogs (Khosla et al. 2011), as images.tar, annotation.tar and lists.tar unpack:
Images/SYNSET-name/*.jpg, Annotation/SYNSET-name/* (boxes), train_list.mat and test_list.mat (also
in lists/).
"""

import re
from pathlib import Path

from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.archive import Published, find_root, inside
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.mat import read_mat
from ssl_parts.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Dogs(ListedImages):
    """Stanford Dogs; a `PartsDataset` with boxes (the largest dog's) where Annotation/ is there.

    Args:
        root: the folder that holds Images/, or the folder around it.
        split: train (12,000), test (8,580), fit and val (a seeded cut of train), or trainval (=
            train).
        allow_partial: use a copy with fewer images.
        seed: of the cut.

    Raises:
        DataError: lists missing or damaged, or a partial copy that was not allowed.
    """

    name = "dogs"
    published = Published(images=20_580, classes=120, splits={"train": 12_000, "test": 8_580})

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        root = find_root(self.name, root, ("Images",), ("stanford_dogs", "StanfordDogs", "dogs"))
        lists = next((p for p in (root, root / "lists") if (p / "train_list.mat").is_file()), None)
        if lists is None:
            raise DataError(
                f"dogs: train_list.mat found neither in {root} nor in {root}/lists; unpack lists.tar there"
            )
        super().__init__(_list(root, lists), self.published, split, allow_partial, seed)
        self._notes = root / "Annotation"

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        file = inside(self._notes, self.paths[i].rpartition(".")[0], "the list of dogs")
        return {"box": _largest_box(file) if file.is_file() else None}


def _list(root: Path, lists: Path) -> Listing:
    paths, splits = [], []
    for split in ("train", "test"):
        (names,) = read_mat(lists / f"{split}_list.mat", "file_list")
        paths += [name for name in names if isinstance(name, str)]
        splits += [split] * len(names)
    folders = [path.split("/", 1)[0] for path in paths]
    classes = sorted(set(folders))
    number = {name: i for i, name in enumerate(classes)}
    return Listing(root / "Images", paths, [number[folder] for folder in folders], splits, classes)


def _largest_box(file: Path) -> tuple[float, float, float, float] | None:
    """PASCAL VOC boxes count pixels from 1. Read by pattern: nothing of the XML machinery is
    exposed to the file.
    """
    text = file.read_bytes()[:100_000].decode(errors="replace")
    boxes = []
    for block in re.findall(r"<bndbox>(.*?)</bndbox>", text, flags=re.DOTALL):
        tags = (re.search(rf"<{corner}>\s*([\d.]+)\s*</{corner}>", block) for corner in CORNERS)
        corners = [float(tag.group(1)) for tag in tags if tag]
        if len(corners) == len(CORNERS):
            x0, y0, x1, y1 = corners
            boxes.append((x0 - 1, y0 - 1, x1, y1))
    return max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), default=None)
