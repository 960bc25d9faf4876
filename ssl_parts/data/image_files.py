"""The base of all sets that are image files on disk: a `PartsDataset` whose children say which files, and what is known
of each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_parts.data.archive import Census, inside
from ssl_parts.data.decode import decode_image
from ssl_parts.data.records import Sample


class ImageFiles:
    """A set of image files.

    Args:
        split: its name.
        root: folder that `paths` are below.
        paths: image files, relative to root, with forward slashes; they are also the images' stable names.
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
        return decode_image(encoded, str(self.file(i)) if isinstance(encoded, Path) else self.paths[i])

    def annotations(self, i: int, height: int, width: int) -> dict[str, object]:
        """Box, part_mask and keypoints of image i where the set has them, as arguments of `Sample`."""
        return {}

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.name} ({self.split}) has {len(self)} images; there is no image {i}")
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
