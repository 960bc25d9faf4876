"""Part polygons in COCO's format: a JSON of images, categories (the parts) and annotations; no
other library is needed.

Regions are drawn in the frame that the file gives for the image (width, height): scaled where the
image on disk has another size of the same shape, turned where EXIF turns the image and the file
has the size before that. Of two parts on one pixel the smaller one is on top.
"""

from pathlib import Path

import numpy as np
import torch

from ssl_parts.data.orientation import read_header
from ssl_parts.data.records import MAX_PARTS, Annotations
from ssl_parts.data.sets.archive import find_root
from ssl_parts.data.sets.coco_file import CocoFile, CocoImage, Region, read_coco
from ssl_parts.data.sets.coco_frame import Frame, draw_region
from ssl_parts.data.sets.coco_places import find_files, resolve_names
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError


class CocoParts(ListedImages):
    """Images with part polygons; a `PartsDataset`. Category ids become part ids 1..P in ascending
    order, the same in every split.

    Files: annotations/SPLIT/SPLIT.json, annotations/SPLIT.json, annotations/instances_SPLIT.json,
    SPLIT.json or SPLIT/_annotations.coco.json; images in images/SPLIT/, SPLIT/, images/ or root.
    SPLIT may be spelled in other ways (valid, train2017). One file annotations.json alone is
    train.

    Args:
        root: the folder of these.
        split: train, val, test, trainval, or fit (= train where there is a val, else a seeded cut
            of it).
        allow_partial: use the images that are there.
        seed: of the cut.

    Raises:
        ConfigError: a split without a file.
        DataError: damaged annotations, files missing that were not allowed; from reading a mask, a
            frame that does not fit its image.
    """

    name = "coco_parts"
    published = None
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
        remarks: list[str] = []
        files = {split: read_coco(file) for split, file in find_files(self.name, root).items()}
        files = _annotated(files, remarks)
        names = _join_categories(files)
        self._images: dict[str, CocoImage] = {}
        listing = self._list(root, files, remarks)
        super().__init__(listing, self.published, split, allow_partial, seed)
        self.part_names = [names[key] for key in sorted(names)]
        self._part_id = {key: part for part, key in enumerate(sorted(names), start=1)}
        self._images = {path: self._images[path] for path in self.paths}

    def _list(self, root: Path, files: dict[str, CocoFile], remarks: list[str]) -> Listing:
        paths, splits = [], []
        for split, content in files.items():
            remarks += content.remarks
            found = resolve_names(root, split, content, remarks)
            for image in content.images:
                path = found[image.name]
                if path in self._images:
                    raise DataError(
                        f"{content.file} lists {path}, which is in split {splits[paths.index(path)]} too; an image "
                        "belongs to one split"
                    )
                self._images[path] = image
                paths.append(path)
                splits.append(split)
        labels, classes = self._labels(paths)
        return Listing(root, paths, labels, splits, classes, remarks=remarks)

    def _labels(self, paths: list[str]) -> tuple[list[int], list[str]]:
        """Classes of the images; plain COCO files have none."""
        return [-1] * len(paths), []

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        path = self.paths[i]
        image = self._images[path]
        frame = Frame.of(image.size, read_header(self.encoded(i), path), height, width, path)
        if frame.remark:
            self.remarks.count(frame.remark, path)
        filled = [(self._draw(region, frame, path), region) for region in image.regions]
        mask = np.zeros((height, width), dtype=np.uint8)
        for region_HW, region in sorted(filled, key=lambda pair: -int(pair[0].sum())):
            mask[region_HW] = self._part_id[region.category]
        return {"part_mask": torch.from_numpy(mask)}

    def _draw(self, region: Region, frame: Frame, path: str) -> np.ndarray:
        return draw_region(region.outline, frame, f"{path}, annotation {region.id}")


def _annotated(files: dict[str, CocoFile], remarks: list[str]) -> dict[str, CocoFile]:
    """Without the splits that have no regions."""
    bare = [split for split, content in files.items() if not content.annotated]
    if "train" in bare:
        raise DataError(
            f"{files['train'].file} holds no region of a part; coco_parts needs segmentations, not boxes"
        )
    for split in bare:
        remarks.append(f"{files[split].file.name} holds no region: split {split} is left out")
    return {split: content for split, content in files.items() if split not in bare}


def _join_categories(files: dict[str, CocoFile]) -> dict[int, str]:
    """Category → name over all splits, which may each have some of them.

    Raises:
        DataError: an id with two names, a name whose id changes, more parts than ids.
    """
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for content in files.values():
        for key, name in content.categories.items():
            before = names.get(key, name)
            moved = ids.get(name, key) not in (key, *content.categories)
            if before != name or moved:
                was = f"{before!r}" if before != name else f"{ids[name]}"
                raise DataError(
                    f"{content.file}: category {key} is {name!r}, but in the splits before it is {was}; number the "
                    f"parts "
                    "alike in all splits"
                )
        names |= content.categories
        ids = {name: key for key, name in content.categories.items()} | ids
    if len(names) > MAX_PARTS:
        raise DataError(
            f"all splits together have {len(names)} categories; at most {MAX_PARTS} parts are possible"
        )
    return names
