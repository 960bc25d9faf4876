"""Part polygons in COCO's format: a JSON of images, categories (the parts) and annotations; no
other library is needed.

A pixel is in a polygon where its centre is. Run-length masks, compressed or not, are decoded here.
Of two parts on one pixel the smaller one is on top.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_parts.data.sets.archive import find_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.errors import DataError

SPLITS = ("train", "val", "test")
FILES = (
    "annotations/{0}/{0}.json",
    "annotations/{0}.json",
    "annotations/instances_{0}.json",
    "{0}.json",
)
FOLDERS = ("images/{0}", "{0}", "images", "")


class CocoParts(ListedImages):
    """Images with part polygons; a `PartsDataset`. Category ids become part ids 1..P in ascending
    order.

    Files: annotations/SPLIT/SPLIT.json, annotations/SPLIT.json, annotations/instances_SPLIT.json
    or SPLIT.json; images in images/SPLIT/, SPLIT/, images/ or root. One file annotations.json
    alone is train.

    Args:
        root: the folder of these.
        split: train, val, test, trainval, or fit (= train where there is a val, else a seeded cut
            of it).
        allow_partial: use the images that are there.
        seed: of the cut.

    Raises:
        ConfigError: a split without a file.
        DataError: damaged annotations, files missing that were not allowed.
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
        self._regions: dict[str, list[dict[str, Any]]] = {}
        self._part_id: dict[int, int] = {}
        listing = self._list(root, _read_files(self.name, root))
        super().__init__(listing, self.published, split, allow_partial, seed)
        self.part_names = self._names
        self._regions = {path: self._regions[path] for path in self.paths}

    def _list(self, root: Path, files: dict[str, dict[str, Any]]) -> Listing:
        paths, splits = [], []
        for split, content in files.items():
            self._read_categories(content["categories"], split)
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            folder = _image_folder(root, split, next(iter(names.values()), ""))
            for annotation in content["annotations"]:
                if (
                    annotation["image_id"] not in names
                    or annotation["category_id"] not in self._part_id
                ):
                    raise DataError(
                        f"{self.name}, {split}: annotation {annotation.get('id')} belongs to no image or part"
                    )
                path = folder + names[annotation["image_id"]]
                self._regions.setdefault(path, []).append(annotation)
            for name in names.values():
                self._regions.setdefault(folder + name, [])
                paths.append(folder + name)
                splits.append(split)
        labels, classes = self._labels(paths)
        return Listing(root, paths, labels, splits, classes)

    def _read_categories(self, categories: list[dict[str, Any]], split: str) -> None:
        names = {int(category["id"]): str(category["name"]) for category in categories}
        order = {key: i for i, key in enumerate(sorted(names), start=1)}
        if self._part_id and order != self._part_id:
            raise DataError(
                f"{self.name}: the parts of {split} have other ids than those of the splits before it"
            )
        self._part_id, self._names = order, [names[key] for key in order]

    def _labels(self, paths: list[str]) -> tuple[list[int], list[str]]:
        """Classes of the images; plain COCO files have none."""
        return [-1] * len(paths), []

    def annotations(self, i: int, height: int, width: int) -> dict[str, object]:
        mask = np.zeros((height, width), dtype=np.uint8)
        regions = self._regions[self.paths[i]]
        filled = [
            (rasterise(region["segmentation"], height, width, self.paths[i]), region)
            for region in regions
        ]
        for region_HW, region in sorted(filled, key=lambda pair: -int(pair[0].sum())):
            mask[region_HW] = self._part_id[region["category_id"]]
        return {"part_mask": torch.from_numpy(mask)}


def rasterise(segmentation: list | dict, height: int, width: int, path: str) -> np.ndarray:
    """bool (H, W) of a COCO segmentation: polygons, or run lengths as numbers or as COCO's string.

    Raises:
        DataError: run lengths of another size, or that do not add up; a polygon with less than
            three corners.
    """
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        counts = _unpack(counts) if isinstance(counts, str) else counts
        if (
            list(segmentation["size"]) != [height, width]
            or sum(counts) != height * width
            or min(counts, default=0) < 0
        ):
            raise DataError(
                f"{path}: a run-length mask of {segmentation['size']} does not fit {height} x {width} pixels"
            )
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape(width, height).T  # COCO runs down the columns
    region = np.zeros((height, width), dtype=bool)
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"{path}: a polygon of {len(polygon)} numbers; x, y of at least three corners are needed"
            )
        region |= _fill(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), height, width)
    return region


def _fill(corners_N2: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool (H, W): pixels whose centre lies in the polygon (even-odd). An edge toggles all pixels
    to its right.
    """
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    for (x0, y0), (x1, y1) in zip(corners_N2, np.roll(corners_N2, -1, axis=0)):
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            toggles[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= 1
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def _unpack(text: str) -> list[int]:
    """COCO's compressed run lengths: base 32 with a sign, differences to the run two before."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more and position < len(text):
            digit = ord(text[position]) - 48
            value |= (digit & 0x1F) << shift
            more, shift, position = bool(digit & 0x20), shift + 5, position + 1
            if not more and digit & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _read_files(name: str, root: Path) -> dict[str, dict[str, Any]]:
    """Split → content of its file."""
    found: dict[str, Path] = {}
    for split in SPLITS:
        file = next(
            (
                root / pattern.format(split)
                for pattern in FILES
                if (root / pattern.format(split)).is_file()
            ),
            None,
        )
        if file is not None:
            found[split] = file
    if not found and (root / "annotations.json").is_file():
        found["train"] = root / "annotations.json"
    if "train" not in found:
        looked = ", ".join([*(pattern.format("train") for pattern in FILES), "annotations.json"])
        raise DataError(f"{name}: no part annotations for train in {root} (looked for {looked})")
    return {split: _read_json(file) for split, file in found.items()}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
        for key, fields in (
            ("images", ("id", "file_name")),
            ("annotations", ("image_id", "category_id", "segmentation")),
        ):
            if any(field not in row for row in content[key] for field in fields):
                raise ValueError(f"a row of {key} lacks one of {', '.join(fields)}")
        if any("id" not in row or "name" not in row for row in content["categories"]):
            raise ValueError("a category lacks its id or name")
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise DataError(
            f"{file} is no COCO annotation file ({type(error).__name__}: {error})"
        ) from error
    return content


def _image_folder(root: Path, split: str, first: str) -> str:
    """The folder, relative to root and with a slash, of a split's first image; the likeliest where
    it is nowhere.
    """
    places = [pattern.format(split) for pattern in FOLDERS]
    if first.startswith("/") or ".." in first:
        return ""  # refused with the listing
    place = next((p for p in places if (root / p / first).is_file()), None)
    place = place if place is not None else next(p for p in places if (root / p).is_dir())
    return f"{place}/" if place else ""
