"""ImageBank: a data set at one square size, decoded once. Discovery, training and evaluation read
the same bank, so part ids line up with images.

Rows: position r of a bank is image `rows[r]` of its data set; caches are laid out by the data
set's rows, so banks over different images of one data set share a cache on disk.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.cache import DiskPixels, MemoryPixels, Pixels
from ssl_parts.data.config import SIZES, Cache, Fit
from ssl_parts.data.decode import looks_whole
from ssl_parts.data.geometry import fit_image, fit_sample
from ssl_parts.data.records import PartsDataset, Sample
from ssl_parts.errors import ConfigError, DataError

SHOWN = 5  # names of bad images in a message


class ImageBank:
    """A data set at one square size.

    Args:
        dataset: what `build_dataset` returns.
        size: side of the square in pixels.
        fit: how an image becomes a square; see `geometry.Fit`.
        cache: see `Cache`.
        cache_dir: folder of the disk cache; files in it are named by data set, size and content.
        indices: which images of the data set, in this order; all by default.

    Raises:
        ConfigError: unknown fit or cache, a size out of range, a disk cache without a folder.
        DataError: no image at all, an index out of range, more memory than there is.
    """

    def __init__(
        self,
        dataset: PartsDataset,
        size: int,
        fit: Fit | str = "crop",
        cache: Cache | str = "memory",
        cache_dir: Path | str | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        self.rows = _rows(dataset, indices)
        if not SIZES[0] <= size <= SIZES[1]:
            raise ConfigError(f"data.size={size} must lie in {SIZES[0]}..{SIZES[1]} pixels")
        self.dataset, self.size, self.fit = dataset, int(size), Fit.of(fit)
        self.labels = np.asarray(dataset.labels, dtype=np.int64)[self.rows]
        self.paths = [dataset.paths[r] for r in self.rows]
        self._pixels = _make_cache(dataset, self.size, self.fit, cache, cache_dir)
        self._decode = getattr(dataset, "image", None) or (lambda row: dataset[row].image)

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """uint8 (n, 3, size, size) of these positions, in this order.

        Raises:
            DataError: a position outside the bank, an image that cannot be decoded (with its
                path).
        """
        rows = self.rows[self.positions(indices)]
        out = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)
        pixels = out.numpy()
        if self._pixels is None:
            for place, row in enumerate(rows):
                pixels[place] = self._square(row)
            return out
        for row in np.unique(rows[~self._pixels.has(rows)]):
            self._pixels.put(row, self._square(row))
        np.take(self._pixels.array, rows, axis=0, out=pixels)
        return out

    def sample(self, i: int) -> Sample:
        """Image and annotations of position i in the same square as `images`; boxes and keypoints
        in its pixels.

        Raises:
            DataError: as `images`; a mask of another size than its image.
        """
        return fit_sample(self.dataset[int(self.rows[self.positions([i])[0]])], self.size, self.fit)

    def subset(self, positions: Sequence[int] | np.ndarray) -> "ImageBank":
        """A bank over these positions that shares this one's cache."""
        chosen = self.positions(positions)
        if len(chosen) == 0:
            raise DataError(f"{self.dataset.name} ({self.dataset.split}): no image is left")
        other = object.__new__(ImageBank)
        other.__dict__.update(self.__dict__)
        other.rows, other.labels, other.paths = (
            self.rows[chosen],
            self.labels[chosen],
            [self.paths[i] for i in chosen],
        )
        return other

    def resized(
        self, size: int, cache: Cache | str = Cache.none, cache_dir: Path | str | None = None
    ) -> "ImageBank":
        """The same images and window of each image at another size.

        Args:
            cache: as that of the class; it is filled as images are read.

        Raises:
            ConfigError: a size out of range.
        """
        return ImageBank(self.dataset, size, self.fit, cache, cache_dir, indices=self.rows)

    def fill(
        self,
        on_bad_image: str = "error",
        workers: int = 2,
        progress: Callable[[int], None] | None = None,
        start: int = 0,
    ) -> "ImageBank":
        """Look at every image before time is spent on any, and fill the cache on the way.

        With cache="none" only suspicious files are decoded (no end marker, no header); with a
        cache all are. Processes that share a disk cache share the work when each begins at another
        `start`.

        Args:
            on_bad_image: "error" raises, "skip" gives a bank without them and warns with their
                number.
            workers: decoding threads.
            progress: called with 1 for each image looked at.

        Returns:
            this bank, or one without the bad images.

        Raises:
            DataError: bad images (the first five are named), or nothing but bad images.
        """
        bad = self._look_at_all(workers, progress or (lambda seen: None), start)
        if not bad:
            return self
        listed = "\n  ".join(bad[i] for i in sorted(bad)[:SHOWN])
        count = f"{len(bad)} of {len(self)} images of {self.dataset.name} ({self.dataset.split}) cannot be read"
        if on_bad_image != "skip":
            raise DataError(f"{count}:\n  {listed}\nleave them out with data.on_bad_image=skip")
        warnings.warn(f"{count} and are left out:\n  {listed}", stacklevel=2)
        return self.subset(np.setdiff1d(np.arange(len(self)), sorted(bad)))

    def flush(self) -> None:
        """Write what a disk cache holds back; `fill` does it too."""
        if self._pixels is not None:
            self._pixels.flush()

    def _look_at_all(
        self, workers: int, progress: Callable[[int], None], start: int
    ) -> dict[int, str]:
        """Position → what is wrong with it."""
        bad: dict[int, str] = {}
        order = np.roll(np.arange(len(self)), -(start % len(self)))

        def look(position: int) -> None:
            try:
                self._look(int(self.rows[position]))
            except DataError as error:
                bad[int(position)] = str(error)
            progress(1)

        with ThreadPoolExecutor(max(1, workers)) as pool:
            for _ in pool.map(look, order):
                pass
        self.flush()
        return bad

    def _look(self, row: int) -> None:
        if self._pixels is None:
            encoded = getattr(self.dataset, "encoded", None)
            if encoded is not None and not looks_whole(encoded(row), self.dataset.paths[row]):
                self._square(row)
        elif not self._pixels.has(np.array([row]))[0]:
            self._pixels.put(row, self._square(row))

    def _square(self, row: int) -> np.ndarray:
        return fit_image(self._decode(int(row)), self.size, self.fit).numpy()

    def positions(self, indices: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        """Indices as int64 (n,), checked.

        Raises:
            DataError: one outside the bank.
        """
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self)):
            raise DataError(
                f"{self.dataset.name} ({self.dataset.split}): image {positions.min()}..{positions.max()} asked for, "
                f"but this bank holds 0..{len(self) - 1}"
            )
        return positions


def _rows(dataset: PartsDataset, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
    if len(dataset) == 0:
        raise DataError(
            f"{dataset.name} has no images in split {dataset.split!r}; check data.root and data.split"
        )
    rows = (
        np.arange(len(dataset))
        if indices is None
        else np.asarray(indices, dtype=np.int64).reshape(-1)
    )
    if len(rows) == 0:
        raise DataError(f"{dataset.name} ({dataset.split}): the list of images to use is empty")
    if rows.min() < 0 or rows.max() >= len(dataset):
        raise DataError(
            f"{dataset.name} ({dataset.split}): image {rows.max()} asked for, of {len(dataset)}"
        )
    return rows


def _make_cache(
    dataset: PartsDataset, size: int, fit: Fit, cache: Cache | str, cache_dir: Path | str | None
) -> Pixels | None:
    name = cache.value if isinstance(cache, Cache) else cache
    if name not in Cache.__members__:
        raise ConfigError(
            f"data.cache={name!r} is unknown; choose one of {', '.join(Cache.__members__)}"
        )
    if name == "none":
        return None
    if name == "memory":
        return MemoryPixels(len(dataset), size)
    if cache_dir is None:
        raise ConfigError(
            "data.cache=disk needs data.cache_dir, a folder with room for the resized images"
        )
    return DiskPixels(Path(cache_dir), dataset, size, fit.value)
