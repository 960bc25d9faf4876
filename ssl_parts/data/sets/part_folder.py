"""Your own part masks: images/ and masks/, one PNG of ids for each image, 0 background and 1..P
parts.

    images/NAME.jpg, masks/NAME.png          or the two below split folders: trainingset/images, testset/masks, ...
    classes.json                           {"0": "background", "1": "wing", ...}; or parts.txt, a name a line from id 1
    labels.csv                               NAME.jpg,label   (optional); else images/CLASS/NAME.jpg gives the class

Id 255 marks pixels that are not judged; masks of 0 and 255 alone have one part. A mask of
another size but the same shape as its image is resized; one drawn on a picture before EXIF turned
it is turned. Car-Parts-Segmentation (Pasupa et al. 2021) has this layout as it is published:
`CarParts`.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ssl_parts.data.decode import decode_mask, turn
from ssl_parts.data.geometry import resize_mask, same_shape
from ssl_parts.data.orientation import read_header
from ssl_parts.data.records import IGNORE, Annotations
from ssl_parts.data.sets.archive import Published, find_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.part_listing import list_pairs, read_part_names
from ssl_parts.data.sets.remarks import first_of
from ssl_parts.errors import DataError

RESIZED = "{n} masks have another size than their image and are resized to it"
TURNED = "{n} masks are drawn on the picture before EXIF turns it, and are turned with it"
UNSURE = (
    "{n} images are turned by EXIF and their masks fit both ways; the masks are taken as drawn on the "
    "picture as it is shown"
)
IGNORED = "{n} masks hold id 255, which is not judged"


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
        listing = list_pairs(root, self.name, allow_partial)
        names, self._binary, remarks = _name_parts(listing)
        super().__init__(listing, self.published, split, allow_partial, seed)
        self.part_names = names
        for remark in remarks:
            self.remarks.say(f"{root}: {remark}")

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        mask = decode_mask(self.root / self.keys[i])
        mask = (mask > 0).to(torch.uint8) if self._binary else mask
        self._check_ids(mask, i)
        return {"part_mask": self._in_frame(mask, i, height, width)}

    def _check_ids(self, mask: Tensor, i: int) -> None:
        ids = mask.unique().tolist()
        if IGNORE in ids:
            ids.remove(IGNORE)
            self.remarks.count(IGNORED, self.keys[i])
        highest = max(ids, default=0)
        if highest > len(self.part_names):
            raise DataError(
                f"{self.root / self.keys[i]} holds id {highest}, but only ids 1..{len(self.part_names)} have names; "
                "add the name, or set such pixels to 0"
            )

    def _in_frame(self, mask: Tensor, i: int, height: int, width: int) -> Tensor:
        """The mask in the frame of its image, where it can be brought there without doubt."""
        header = read_header(self.encoded(i), self.paths[i])
        if tuple(mask.shape) == (height, width):
            if header.fits_both_ways:
                self.remarks.count(UNSURE, self.paths[i])
            return mask
        if header.is_turned and tuple(mask.shape) == (header.height, header.width):
            self.remarks.count(TURNED, self.keys[i])
            return turn(mask, header.orientation)
        if same_shape(tuple(mask.shape), (height, width)):
            self.remarks.count(RESIZED, self.keys[i])
            return resize_mask(mask, height, width)
        return mask  # refused where it meets its image


class CarParts(PartFolder):
    """Car-Parts-Segmentation (Pasupa et al. 2021): trainingset/ and testset/, classes.json, 18
    parts. Mirrored images swap left and right parts (`part_pairs`). Arguments and errors as
    `PartFolder`."""

    name = "carparts"
    published = Published(images=500, classes=0, splits={"train": 400, "test": 100})
    marks = ("trainingset/images", "testset/images")
    inner = ("Car-Parts-Segmentation", "carparts")


def _name_parts(listing: Listing) -> tuple[list[str], bool, list[str]]:
    """(names of ids 1..P, whether masks are black and white, remarks).

    Without names, or with one, all masks of all splits are read once: parts are then named by
    their ids, the same in every split.
    """
    names = read_part_names(listing.root)
    if len(names) > 1:
        return names, False, []
    found = set().union(*(mask_ids(*_state(listing.root / key)) for key in listing.keys))
    parts = found - {0, IGNORE}
    if not parts and IGNORE in found:
        return names or ["part 1"], True, ["masks hold 0 and 255 alone: 255 is part 1"]
    if names:
        return names, False, []
    highest = max(parts, default=0)
    remarks = [f"{highest} parts, named by the ids of the masks (parts.txt names them)"]
    absent = set(range(1, highest + 1)) - parts
    if len(absent) > len(parts):
        raise DataError(
            f"{listing.root}: masks hold ids {first_of(f'{k:3}'.strip() for k in parts)}, and ids between are not "
            "there; number the parts from 1, or name all ids in parts.txt"
        )
    if absent:
        remarks.append(f"no mask holds id {first_of(map(str, absent))}")
    return (
        [f"part {k}" for k in range(1, highest + 1)],
        False,
        remarks if highest else ["no mask holds a part"],
    )


def _state(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file), state.st_size, state.st_mtime_ns


@lru_cache(maxsize=1 << 16)
def mask_ids(file: str, size: int, modified: int) -> frozenset[int]:
    """Ids in a mask file; kept while the file stays the same."""
    return frozenset(decode_mask(file).unique().tolist())
