"""Where an ImageBank keeps resized images: in memory, or in a memory-mapped file shared by
processes and runs.

Both hold one array (N, 3, S, S) and one flag an image, set after its pixels are written. Writers
of one row write the same bytes, so threads and processes need no lock.
"""

import hashlib
import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Protocol

import numpy as np

from ssl_parts.data.records import PartsDataset
from ssl_parts.errors import DataError

VERSION = 1  # raised when decoding or geometry change, so that no stale pixels are read
FLUSH_BYTES = 256 << 20


class Pixels(Protocol):
    array: np.ndarray  # uint8 (N, 3, S, S)

    def has(self, rows: np.ndarray) -> np.ndarray: ...

    def put(self, row: int, pixels: np.ndarray) -> None: ...

    def flush(self) -> None: ...


class MemoryPixels:
    """Pixels of this process.

    Raises:
        DataError: more than 0.9 of the free memory would be needed.
    """

    def __init__(self, n: int, size: int) -> None:
        needed, free = n * 3 * size * size, _free_memory()
        if free is not None and needed > 0.9 * free:
            raise DataError(
                f"{n} images of {size} x {size} need {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are "
                "free; use data.cache=disk, data.cache=none or a smaller data.size"
            )
        self.array = np.empty((n, 3, size, size), dtype=np.uint8)
        self._done = np.zeros(n, dtype=bool)

    def has(self, rows: np.ndarray) -> np.ndarray:
        return self._done[rows]

    def put(self, row: int, pixels: np.ndarray) -> None:
        self.array[row] = pixels
        self._done[row] = True

    def flush(self) -> None:
        """Nothing to do: memory has no slower side."""


class DiskPixels:
    """Pixels in `folder/NAME-SPLIT-SIZE-KEY/`: pixels.npy, done.npy and key.json, which says what
    they were made from.

    Flags reach the disk behind their pixels (a flag is written after a flush), so a killed process
    or machine loses the last rows at most and never leaves a flag on pixels that are not there.

    Raises:
        DataError: the folder cannot be written or is not what its name says.
    """

    def __init__(self, folder: Path, dataset: PartsDataset, size: int, fit: str) -> None:
        source = describe_source(dataset) | {"size": size, "fit": fit, "version": VERSION}
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / f"{dataset.name}-{dataset.split}-{size}-{key}"
        shape = (len(dataset), 3, size, size)
        try:
            if not self.folder.exists():
                _make_folder(self.folder, shape, source)
            self.array = np.lib.format.open_memmap(self.folder / "pixels.npy", mode="r+")
            self._kept = np.lib.format.open_memmap(self.folder / "done.npy", mode="r+")
        except (OSError, ValueError) as error:
            raise DataError(
                f"data.cache=disk: cannot use {self.folder} ({error}); delete it, choose another data.cache_dir, or "
                "use data.cache=memory"
            ) from error
        if self.array.shape != shape or self._kept.shape != shape[:1]:
            raise DataError(f"{self.folder} holds {self.array.shape}, not {shape}; delete it")
        self._done = np.zeros(len(dataset), dtype=bool)
        self._lock, self._unflushed, self._row_bytes = threading.Lock(), [], 3 * size * size

    def has(self, rows: np.ndarray) -> np.ndarray:
        return self._done[rows] | self._kept[rows]

    def put(self, row: int, pixels: np.ndarray) -> None:
        self.array[row] = pixels
        self._done[row] = True
        with self._lock:
            self._unflushed.append(row)
            full = len(self._unflushed) * self._row_bytes >= FLUSH_BYTES
        if full:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            rows, self._unflushed = self._unflushed, []
        if rows:
            self.array.flush()
            self._kept[rows] = True
            self._kept.flush()


def _make_folder(folder: Path, shape: tuple[int, ...], source: dict[str, object]) -> None:
    """Make the folder whole under another name, then rename it; where another process was first,
    its folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    np.lib.format.open_memmap(
        temporary / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
    ).flush()
    np.lib.format.open_memmap(
        temporary / "done.npy", mode="w+", dtype=np.bool_, shape=shape[:1]
    ).flush()
    (temporary / "key.json").write_text(json.dumps(source, indent=1))
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
        if not folder.exists():
            raise


def describe_source(dataset: PartsDataset) -> dict[str, object]:
    """What the pixels of a data set depend on: its own `fingerprint()` where it has one, else its
    names.
    """
    digest = hashlib.sha256()
    for path in dataset.paths:
        digest.update(path.encode(errors="surrogateescape") + b"\0")
    fingerprint = getattr(dataset, "fingerprint", None)
    return {
        "name": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "paths": digest.hexdigest(),
        "content": fingerprint() if fingerprint is not None else None,
    }


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None
