"""OID-Aircraft (Vedaldi et al. 2014), as oid-aircraft-beta-1.tar.gz unpacks
(data/images/aeroplane/ID.jpg), with the four part maps that part segmentation uses (docs/method.md, section 1.6):
data_oid/ID/ID_nose.png, ID_VS.png, ID_wheel.png and ID_wing.png, and the lists train_oid.txt and
val_oid.txt that come with them.

A pixel may belong to several parts, so `part_mask` is (4, H, W) of 0/1. The caption below every
image, 21 rows, is cut off image and maps alike. The published protocol tests on val_oid.txt: here
that list is split test where there is no test_oid.txt. Without any list all images are train.
"""

from pathlib import Path

import torch
from torch import Tensor

from ssl_parts.data.decode import decode_mask
from ssl_parts.data.records import Annotations
from ssl_parts.data.sets.aircraft import cut_banner
from ssl_parts.data.sets.archive import find_root, inside, missing_files, read_lines
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.tree import list_images
from ssl_parts.errors import DataError

PARTS = {"nose": "nose", "vertical stabiliser": "VS", "wheel": "wheel", "wing": "wing"}
BANNER = 21
IMAGES = "data/images/aeroplane"
LIST_FOLDERS = ("", "anno", "data", "data_oid", "data/data_oid")
MAP_FOLDERS = ("data_oid", "data/data_oid")


class OIDAircraft(ListedImages):
    """OID-Aircraft; a `PartsDataset` without classes, with four part maps where they are there.

    Args:
        root: the unpacked archive or the folder around it.
        split: train, test, fit and val (a seeded cut of train), or trainval (= train).
        allow_partial: use the images that have all four maps when some have not, or when listed
            images are missing.
        seed: of the cut.

    Raises:
        ConfigError: a split without a list.
        DataError: no images; listed images or their maps missing, which was not allowed; a map of
            another size.
    """

    name = "oid_aircraft"

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        root = find_root(self.name, root, (IMAGES,), ("oid-aircraft-beta-1",))
        listing = _list(root)
        self._maps = next(
            (root / folder for folder in MAP_FOLDERS if (root / folder).is_dir()), None
        )
        if self._maps is not None:
            _require_maps(self._maps, listing, allow_partial)
        super().__init__(listing, None, split, allow_partial, seed)
        self.part_names = list(PARTS) if self._maps is not None else []

    def image(self, i: int) -> Tensor:
        return cut_banner(super().image(i), BANNER, self.paths[i])

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        if self._maps is None:
            return {}
        maps = [
            (decode_mask(_find_map(self._maps, self.keys[i], part)) > 0).to(torch.uint8)
            for part in PARTS.values()
        ]
        if any(m.shape != (height + BANNER, width) for m in maps):
            sizes = ", ".join(f"{m.shape[1]} x {m.shape[0]}" for m in maps)
            raise DataError(
                f"{self.paths[i]}: the image is {width} x {height + BANNER} pixels, its part maps {sizes}"
            )
        return {"part_mask": cut_banner(torch.stack(maps), BANNER, self.paths[i]).contiguous()}


def _find_map(folder: Path, key: str, part: str) -> Path:
    return inside(folder, f"{key}/{key}_{part}.png", "the list of oid_aircraft")


def _list(root: Path) -> Listing:
    lists = {split: _find(root, split) for split in ("train", "val", "test")}
    if lists["test"] is None:
        lists["test"], lists["val"] = lists["val"], None
    rows = [
        (Path(line).stem, split)
        for split, path in lists.items()
        if path
        for line in read_lines(path)
    ]
    if not rows:
        rows = [(Path(path).stem, "train") for path in list_images(root / IMAGES)]
    paths = [f"{key}.jpg" for key, _ in rows]
    splits = [split for _, split in rows]
    return Listing(root / IMAGES, paths, [-1] * len(rows), splits, [], [key for key, _ in rows])


def _find(root: Path, split: str) -> Path | None:
    places = [root / folder / f"{split}_oid.txt" for folder in LIST_FOLDERS]
    return next((place for place in places if place.is_file()), None)


def _require_maps(folder: Path, listing: Listing, allow_partial: bool) -> None:
    """Drops images without all maps from the listing where that is allowed."""
    wanted = [f"{key}/{key}_{part}.png" for key in listing.keys for part in PARTS.values()]
    lacking = {path.split("/", 1)[0] for path in missing_files(folder, wanted)}
    if lacking and not allow_partial:
        first = min(lacking)
        raise DataError(
            f"oid_aircraft: {len(lacking):,} of {len(listing.keys):,} images have not all four part maps in {folder} "
            f"(first: {first}/{first}_nose.png, _VS, _wheel, _wing); use those that have with data.allow_partial=true"
        )
    keep = [i for i, key in enumerate(listing.keys) if key not in lacking]
    for name in ("paths", "labels", "splits", "keys"):
        setattr(listing, name, [getattr(listing, name)[i] for i in keep])
