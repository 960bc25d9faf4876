"""The base of all sets that are image files on disk: a `PartsDataset` whose children say which
files, and what is known of each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_parts.data.decode import decode_image
from ssl_parts.data.flip import left_right_pairs
from ssl_parts.data.records import Annotations, Sample
from ssl_parts.data.sets.archive import Census, Published, inside, missing_files, require_complete
from ssl_parts.data.sets.remarks import Remarks, counted
from ssl_parts.data.sets.splits import choose_split


class ImageFiles:
    """A set of image files.

    Args:
        split: its name.
        root: folder that `paths` are below.
        paths: image files, relative to root, with forward slashes; they are also the images'
            stable names.
        labels: (N,) class indices, -1 where there is none.
        classes: names of the classes.
        census: what was found on disk.

    Raises:
        DataError: a path that leaves root; from reading an image, a file that cannot be decoded.
    """

    name = "images"

    def __init__(
        self,
        split: str,
        root: Path,
        paths: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        classes: Sequence[str],
        census: Census | None = None,
        part_names: Sequence[str] = (),
        keypoint_names: Sequence[str] = (),
    ) -> None:
        self.split, self.root, self.paths = split, root, list(paths)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes, self.census = list(classes), census
        self.part_names, self.keypoint_names = list(part_names), list(keypoint_names)
        self.remarks = Remarks()  # what was left out, taken for something, or mended
        self.account: list[str] = []  # what was taken for what, all splits, a sentence each

    @property
    def part_pairs(self) -> list[tuple[int, int]]:
        """Mask ids that change places when an image is mirrored: what is named left and right."""
        return [(a + 1, b + 1) for a, b in left_right_pairs(self.part_names)]

    @property
    def keypoint_pairs(self) -> list[tuple[int, int]]:
        """Keypoints that change places when an image is mirrored."""
        return left_right_pairs(self.keypoint_names)

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, i: int) -> Path:
        return inside(self.root, self.paths[i], f"the list of {self.name}")

    def encoded(self, i: int) -> Path | bytes | memoryview:
        """Image i as it is stored; nothing is decoded."""
        return self.file(i)

    def image(self, i: int) -> Tensor:
        """Image i alone, uint8 (3, H, W): what `self[i].image` is, without reading annotations."""
        encoded = self.encoded(i)
        return decode_image(
            encoded, str(self.file(i)) if isinstance(encoded, Path) else self.paths[i]
        )

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        """Box, part_mask and keypoints of image i where the set has them, as arguments of
        `Sample`.
        """
        return {}

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(
                f"{self.name} ({self.split}) has {len(self)} images; there is no image {i}"
            )
        i = int(i) % len(self)
        image, label = self.image(i), int(self.labels[i])
        known = self.annotations(i, *image.shape[-2:])
        return Sample(image=image, label=label if label >= 0 else None, path=self.paths[i], **known)

    def fingerprint(self) -> str:
        """Changes when a file is replaced: a digest of sizes and modification times."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            state = self.file(i).stat()
            digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
        return digest.hexdigest()


@dataclass
class Listing:
    """What the lists of an archive say, all splits together; one entry an image."""

    root: Path  # the folder that paths are below
    paths: list[str]
    labels: Sequence[int] | np.ndarray
    splits: Sequence[str] | np.ndarray  # the official split of each
    classes: list[str]
    keys: list[str] = field(default_factory=list)  # the archive's own name of each
    boxes: np.ndarray | None = None  # float (N, 4), x0 y0 x1 y1; NaN where there is none
    remarks: list[str] = field(default_factory=list)  # what was left out or taken for something
    # what was taken for what; made from the counts where empty
    account: list[str] = field(default_factory=list)


class ListedImages(ImageFiles):
    """The images of one split of a listing; what is listed and not on disk is reported.

    Raises:
        ConfigError: an unknown split.
        DataError: a partial copy that was not allowed, a listed path that leaves root, an empty
            split.
    """

    def __init__(
        self,
        listing: Listing,
        published: Published | None,
        split: str,
        allow_partial: bool,
        seed: int = 0,
    ) -> None:
        missing = missing_files(listing.root, listing.paths)
        census = Census(listing.root, len(listing.paths), missing, published)
        require_complete(self.name, census, allow_partial)
        absent = set(missing)
        here = np.array([path not in absent for path in listing.paths], dtype=bool)
        labels, split_N = (
            np.asarray(listing.labels, dtype=np.int64),
            np.asarray(listing.splits, dtype=object),
        )
        official = {
            str(name): np.flatnonzero(here & (split_N == name)) for name in dict.fromkeys(split_N)
        }
        official.setdefault("train", np.zeros(0, dtype=np.int64))
        rows = choose_split(self.name, split, official, labels, listing.paths, seed)
        super().__init__(
            split,
            listing.root,
            [listing.paths[i] for i in rows],
            labels[rows],
            listing.classes,
            census,
        )
        self.keys = [listing.keys[i] for i in rows] if listing.keys else self.paths
        self._boxes = None if listing.boxes is None else listing.boxes[rows]
        counts = [
            f"split {name}: {counted(len(found), 'image')}"
            for name, found in official.items()
            if len(found)
        ]
        self.account = listing.account or counts
        for remark in listing.remarks:
            self.remarks.say(f"{listing.root}: {remark}")

    def box(self, i: int, height: int, width: int) -> tuple[float, float, float, float] | None:
        """The box of image i, cut to its frame; None where there is none."""
        if self._boxes is None or np.isnan(self._boxes[i]).any():
            return None
        x0, y0, x1, y1 = np.clip(self._boxes[i], 0, [width, height, width, height]).tolist()
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def annotations(self, i: int, height: int, width: int) -> Annotations:
        return {"box": self.box(i, height, width)}
