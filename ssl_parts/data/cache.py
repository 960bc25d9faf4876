"""Where an ImageBank keeps resized images: in memory, or in a memory-mapped file shared by
processes and runs.

Both hold one array (N, 3, S, S) and one flag an image, set after its pixels are written. Writers
of one row write the same bytes, so threads and processes need no lock.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ssl_parts.data.records import PartsDataset
from ssl_parts.errors import DataError

VERSION = 2  # raised when decoding or geometry change, so that no stale pixels are read
FLUSH_BYTES = 256 << 20
LEFT_OVER = 24 * 3600  # seconds

log = logging.getLogger(__name__)


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
    """Pixels in `folder/NAME-SPLIT-SIZE-KEY/`: pixels.npy, sums.npy (a check sum a row), done.npy
    and key.json, which says what they were made from.

    Flags reach the disk behind their pixels (a flag is written after a flush), so a killed process
    or machine loses the last rows at most and never leaves a flag on pixels that are not there. A
    row that another process wrote is compared with its sum before it is used the first time; one
    that has changed is decoded again. The room is reserved when the folder is made, so a disk that
    fills up later is no concern of the map.

    Raises:
        DataError: the folder cannot be written, has no room, or is not what its name says.
    """

    def __init__(self, folder: Path, dataset: PartsDataset, size: int, fit: str) -> None:
        source = describe_source(dataset) | {"size": size, "fit": fit, "version": VERSION}
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / f"{dataset.name}-{dataset.split}-{size}-{key}"
        n = len(dataset)
        arrays = {
            "pixels.npy": (np.uint8, (n, 3, size, size)),
            "sums.npy": (np.uint32, (n,)),
            "done.npy": (np.bool_, (n,)),
        }
        try:
            if not self.folder.exists():
                _make_folder(self.folder, arrays, source)
            maps = [_open_map(self.folder / name, *kind) for name, kind in arrays.items()]
        except (OSError, ValueError) as error:
            raise DataError(
                f"data.cache=disk: cannot use {self.folder} ({error}); delete it, choose another data.cache_dir, or "
                "use data.cache=memory"
            ) from error
        self._maps = maps
        self.array: np.ndarray = maps[0]
        self._sums, self._kept = maps[1], maps[2]
        self._done = np.zeros(n, dtype=bool)
        self._lock, self._unflushed, self._row_bytes = threading.Lock(), [], 3 * size * size

    def has(self, rows: np.ndarray) -> np.ndarray:
        for row in np.unique(rows[self._kept[rows] & ~self._done[rows]]):
            self._done[row] = self._sums[row] == _checksum(self.array[row])
            if not self._done[row]:
                log.warning("%s: row %d has changed on disk and is decoded again", self.folder, row)
        return self._done[rows]

    def put(self, row: int, pixels: np.ndarray) -> None:
        self.array[row] = pixels
        self._sums[row] = _checksum(pixels)
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
            pixels, sums, kept = self._maps
            pixels.flush()
            sums.flush()
            kept[rows] = True
            kept.flush()


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)


Arrays = dict[str, tuple[type, tuple[int, ...]]]  # file → type and shape


def _make_folder(folder: Path, arrays: Arrays, source: dict[str, object]) -> None:
    """Make the folder whole under another name, then rename it; where another process was first,
    its folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for name, (kind, shape) in arrays.items():
            np.lib.format.open_memmap(temporary / name, mode="w+", dtype=kind, shape=shape).flush()
            _reserve(temporary / name)
        (temporary / "key.json").write_text(json.dumps(source, indent=1))
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reserve(file: Path) -> None:
    """Claim all blocks of a file that is one hole: writing into a map on a full disk ends the
    process (SIGBUS).

    Raises:
        OSError: no room for it.
    """
    with file.open("r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        elif shutil.disk_usage(file.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))


def _remove_left_over(folder: Path) -> None:
    """What processes killed while they made this folder have left, a day ago or earlier."""
    for place in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(OSError):
            if place.stat().st_mtime < time.time() - LEFT_OVER:
                shutil.rmtree(place)


def _open_map(file: Path, kind: type, shape: tuple[int, ...]) -> np.memmap:
    """An array file mapped for writing; its size is looked at first, since a map silently
    lengthens a file cut short.

    Raises:
        OSError: not there. ValueError: another type, shape or length.
    """
    array = np.lib.format.open_memmap(file, mode="r")
    offset, length = array.offset, file.stat().st_size
    if array.dtype != kind or array.shape != shape or length != offset + array.nbytes:
        raise ValueError(f"{file.name} holds {array.dtype} {array.shape} in {length} bytes")
    return np.lib.format.open_memmap(file, mode="r+")


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
