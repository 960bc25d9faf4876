"""PASCUB birds (Saha et al., ECCV 2022; docs/method.md, section 1.6): CUB-Parts and PASCAL-Parts as they are
handed out together, {CUB_Parts,PASCAL_Parts}/images_SPLIT/ and parts_SPLIT/NAME.png with ids
0..10.

Train is both sources, test is CUB_Parts/images_test, the published test set. As in the published
protocol every image is cut to the box of its parts and 20 pixels around it, before anything else
sees it.
"""

from pathlib import Path

import torch
from torch import Tensor

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.archive import find_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.tree import list_images
from ssl_parts.errors import DataError

PARTS = (
    "head", "beak", "tail", "left wing", "right wing", "left leg", "right leg", "left eye", "right eye", "torso",
)  # fmt: skip
SOURCES = {
    "train": ("CUB_Parts", "PASCAL_Parts"),
    "val": ("CUB_Parts", "PASCAL_Parts"),
    "test": ("CUB_Parts",),
}
MARGIN = 20


class PasCUB(ListedImages):
    """PASCUB birds; a `PartsDataset` with ten parts. Mirrored images swap 4↔5, 6↔7 and 8↔9
    (`part_pairs`).

    Args:
        root: the folder that holds CUB_Parts/ and PASCAL_Parts/, or the folder around it.
        split: train, test; val where images_val/ is there, else fit and val are a seeded cut of
            train.
        crop: cut images to their parts and `MARGIN` pixels around; false keeps them whole.
        allow_partial: use the images whose part map is there, or one source of the two.
        seed: of the cut.

    Raises:
        DataError: folders missing, images without part maps that were not allowed, a map of
            another size.
    """

    name = "pascub"

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        crop: bool = True,
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        marks = ["CUB_Parts/images_train", "CUB_Parts/parts_train"]
        marks += [] if allow_partial else ["PASCAL_Parts/images_train", "PASCAL_Parts/parts_train"]
        root = find_root(self.name, root, marks, ("PASCUB_Birds", "PASCUB"))
        self._crop = crop
        super().__init__(_list(root, allow_partial), None, split, allow_partial, seed)
        self.part_names = list(PARTS)

    def image(self, i: int) -> Tensor:
        image = super().image(i)
        if not self._crop:
            return image
        x0, y0, x1, y1 = self._window(i, *image.shape[-2:])
        return image[:, y0:y1, x0:x1]

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        mask = decode_mask(self._map(i))
        if self._crop:
            x0, y0, x1, y1 = self._window(i, *mask.shape)
            mask = mask[y0:y1, x0:x1]
        return {"part_mask": mask}

    def _map(self, i: int) -> Path:
        return self.root / _map_path(*self.paths[i].split("/", 2))

    def _window(self, i: int, height: int, width: int) -> tuple[int, int, int, int]:
        mask = decode_mask(self._map(i))
        if mask.shape != (height, width):
            raise DataError(
                f"{self.paths[i]}: the image is {width} x {height}, its part map {mask.shape[1]} x {mask.shape[0]}"
            )
        ys, xs = torch.nonzero(mask, as_tuple=True)
        if len(ys) == 0:
            return 0, 0, width, height
        x0, y0 = max(0, int(xs.min()) - MARGIN), max(0, int(ys.min()) - MARGIN)
        return (
            x0,
            y0,
            min(width, int(xs.max()) + 1 + MARGIN),
            min(height, int(ys.max()) + 1 + MARGIN),
        )


def _map_path(source: str, folder: str, name: str) -> str:
    return f"{source}/{folder.replace('images_', 'parts_')}/{name.rpartition('.')[0]}.png"


def _list(root: Path, allow_partial: bool) -> Listing:
    paths, splits = [], []
    for split, sources in SOURCES.items():
        for source in sources:
            folder = root / source / f"images_{split}"
            found = (
                [f"{source}/images_{split}/{name}" for name in list_images(folder)]
                if folder.is_dir()
                else []
            )
            paths += found
            splits += [split] * len(found)
    maps = {path: _map_path(*path.split("/", 2)) for path in paths}
    lacking = {path for path in paths if not (root / maps[path]).is_file()}
    if lacking and not allow_partial:
        raise DataError(
            f"pascub: {len(lacking)} images have no part map (first: {maps[min(lacking)]} below {root}); "
            "use those that have with data.allow_partial=true"
        )
    keep = [i for i, path in enumerate(paths) if path not in lacking]
    return Listing(root, [paths[i] for i in keep], [-1] * len(keep), [splits[i] for i in keep], [])
