"""Part ids of a whole data set: one folder, memory-mapped, written by several processes,
restartable in the middle.

A store of a million images costs as little memory as one of ten: `ids.npy` (uint8 (N,h,w)) is
mapped, not read, and `done.npy` (bool (N,)) says which rows are finished. Rows of different ranks
are disjoint, so no lock is needed.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.palette import colours

VERSION = 1
SCOPES = ("image", "dataset")


@dataclass(frozen=True)
class StoreInfo:
    """What `meta.json` says.

    count, size: N images of size x size ids. k: number of ids, background included. background:
    its id, or None where there was no foreground step. scope: "image" (an id means nothing in
    another image) or "dataset" (it does). provenance: which encoder, configuration and images made
    it.
    """

    count: int
    size: int
    k: int
    background: int | None = None
    scope: str = "image"
    provenance: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def check(self) -> None:
        """Raise PartDiscoveryError for values that no store can have."""
        if self.scope not in SCOPES or not 1 <= self.k <= 256 or self.count < 1 or self.size < 1:
            raise PartDiscoveryError(
                f"a part store needs count and size >= 1, 1 <= k <= 256 and scope in {SCOPES}, "
                f"got {self.count}, {self.size}, {self.k}, {self.scope!r}"
            )


class PartStore:
    """Ids by image: `store[i]` is uint8 (h, w), `store.batch(indices)` uint8 (n, h, w).

    `PartStore(info)` lives in memory; `create` and `open` deal with folders. `write` marks rows as
    done only after their ids are on disk, so a killed discovery leaves whole rows only.

    Attributes:
        info: what `meta.json` says.
        path: the folder; None in memory.
        fit: what discovery learned, where this process did it.

    Example:
        >>> import torch
        >>> store = PartStore(StoreInfo(count=2, size=4, k=3, background=0))
        >>> store.write([1], torch.ones(1, 4, 4, dtype=torch.uint8))
        >>> store[1].unique().tolist(), store.pending().tolist()
        ([1], [0])
    """

    def __init__(
        self, info: StoreInfo, ids: np.ndarray | None = None, done: np.ndarray | None = None
    ) -> None:
        info.check()
        self.info = info
        self.path: Path | None = None
        self.fit: dict[str, Any] | None = None
        self._ids = np.zeros((info.count, info.size, info.size), np.uint8) if ids is None else ids
        self._done = np.zeros(info.count, bool) if done is None else done

    @property
    def k(self) -> int:
        """Number of ids, background included."""
        return self.info.k

    @property
    def size(self) -> int:
        """Height and width of an id map."""
        return self.info.size

    @property
    def background(self) -> int | None:
        """Id of the background, or None."""
        return self.info.background

    @property
    def scope(self) -> str:
        """Where an id means the same part: in one "image", or in the whole "dataset"."""
        return self.info.scope

    @property
    def provenance(self) -> dict[str, Any]:
        """Encoder, configuration and images behind the ids."""
        return self.info.provenance

    def __len__(self) -> int:
        return self.info.count

    def __getitem__(self, i: int) -> Tensor:
        return self.batch([i])[0]

    def batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Ids (n, h, w) uint8 of these images, in this order.

        Raises:
            PartDiscoveryError: an index outside the store, or an image that discovery has not
                reached.
        """
        rows = self._rows(indices)
        if not self._done[rows].all():
            missing = rows[~self._done[rows]]
            raise PartDiscoveryError(
                f"{self.path or 'this part store'} has no ids yet for {len(missing)} of the images asked for "
                f"(first: {int(missing[0])}); run discovery again with the same settings, it goes on where it stopped"
            )
        return torch.from_numpy(self._ids[rows])

    def write(self, indices: Sequence[int] | np.ndarray | Tensor, ids_BHW: Tensor) -> None:
        """Put rows and mark them as done. Rows must not be shared between processes that write at
        the same time.

        Raises:
            PartDiscoveryError: ids of another shape, or outside 0..k-1.
        """
        rows = self._rows(indices)
        ids = ids_BHW.detach().cpu().numpy()
        if ids.shape != (len(rows), self.size, self.size):
            raise PartDiscoveryError(
                f"ids of shape {ids.shape} for {len(rows)} rows of a {self.size} x {self.size} store"
            )
        if ids.size and (ids.min() < 0 or ids.max() >= self.k):
            raise PartDiscoveryError(
                f"part ids run from {ids.min()} to {ids.max()}, but this store has k={self.k}"
            )
        self._ids[rows] = ids.astype(np.uint8)
        _flush(self._ids)
        self._done[rows] = True
        _flush(self._done)

    def pending(self) -> np.ndarray:
        """Indices of the images without ids, ascending."""
        return np.flatnonzero(~self._done)

    @property
    def complete(self) -> bool:
        """Whether every image has its ids."""
        return bool(self._done.all())

    @classmethod
    def create(cls, path: Path, info: StoreInfo) -> "PartStore":
        """Make the folder, or join the one that another process or an earlier, killed run has
        made.

        Raises:
            PartDiscoveryError: the folder holds a store with other settings, or something else.
        """
        info.check()
        path = Path(path)
        if not path.exists():
            _make_folder(path, info)
        store = cls.open(path, writable=True)
        differing = differences(_jsonable(asdict(info)), asdict(store.info))
        if differing:
            raise PartDiscoveryError(
                f"{path} holds a part store made with other settings ({'; '.join(differing)}); "
                "remove it or choose another folder"
            )
        return store

    @classmethod
    def open(cls, path: Path, writable: bool = False) -> "PartStore":
        """Map a store's files; nothing is read until it is asked for.

        Raises:
            PartDiscoveryError: no store there, another version, or files that do not fit its
                meta.json.
        """
        path = Path(path)
        try:
            meta = json.loads((path / "meta.json").read_text())
            if meta.get("version") != VERSION:
                raise PartDiscoveryError(
                    f"{path} is a part store of version {meta.get('version')}, this code reads {VERSION}"
                )
            info = StoreInfo(**meta)
            mode = "r+" if writable else "r"
            ids, done = (np.load(path / name, mmap_mode=mode) for name in ("ids.npy", "done.npy"))
        except (OSError, TypeError, json.JSONDecodeError, ValueError) as error:
            if isinstance(error, PartDiscoveryError):
                raise
            raise PartDiscoveryError(
                f"{path} is not a readable part store ({error}); run discovery again"
            ) from error
        if ids.shape != (info.count, info.size, info.size) or done.shape != (info.count,):
            raise PartDiscoveryError(
                f"{path}: ids of shape {ids.shape} do not fit meta.json; run discovery again"
            )
        store = cls(info, ids, done)
        store.path = path
        return store

    def verify(self, paths: Sequence[str] | None = None) -> None:
        """Read every row once and check it.

        Args:
            paths: of the data set at hand, to make sure that row i is image i.

        Raises:
            PartDiscoveryError: unfinished rows, ids outside 0..k-1, or another data set.
        """
        if not self.complete:
            raise PartDiscoveryError(
                f"{self.path or 'part store'}: {len(self.pending())} of {len(self)} images have no ids yet "
                f"(first: {int(self.pending()[0])}); run discovery again, it goes on where it stopped"
            )
        if paths is not None and (
            len(paths) != len(self) or self.provenance.get("images") != fingerprint(paths)
        ):
            raise PartDiscoveryError(
                f"{self.path or 'part store'} was made from other images ({len(self)} there, {len(paths)} here, or "
                "another order); run discovery on this data set"
            )
        for at in range(0, len(self), 1024):
            largest = int(self._ids[at : at + 1024].max())
            if largest >= self.k:
                raise PartDiscoveryError(
                    f"{self.path or 'part store'}: id {largest} near image {at}, but k={self.k}"
                )

    def export_png(
        self, folder: Path, names: Sequence[str] | None = None, indices: Sequence[int] | None = None
    ) -> None:
        """Palette PNGs for people and other tools: the pixel value is the id, the palette makes it
        visible.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        palette = colours(self.k, self.background).flatten().tolist()
        for i in range(len(self)) if indices is None else indices:
            name = f"{i:07d}" if names is None else f"{i:07d}_{Path(names[i]).stem}"
            picture = Image.fromarray(self[i].numpy(), mode="P")
            picture.putpalette(palette)
            picture.save(folder / f"{name}.png")

    def _rows(self, indices: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        rows = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise PartDiscoveryError(
                f"image {int(rows.max())} asked of a part store of {len(self)} images"
            )
        return rows


def fingerprint(paths: Sequence[str]) -> str:
    """A short hash of the images' identifiers in their order: does row i of a store belong to
    image i?
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path).encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def _make_folder(path: Path, info: StoreInfo) -> None:
    """Build beside, then rename: whoever comes second finds the first one's folder and drops its
    own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    beside.mkdir()
    shapes = {
        "ids.npy": (np.uint8, (info.count, info.size, info.size)),
        "done.npy": (np.bool_, (info.count,)),
    }
    for name, (kind, shape) in shapes.items():
        _flush(np.lib.format.open_memmap(beside / name, mode="w+", dtype=kind, shape=shape))
        _reserve(beside / name)
    (beside / "meta.json").write_text(json.dumps(_jsonable(asdict(info)), indent=1) + "\n")
    try:
        os.rename(beside, path)
    except OSError:
        shutil.rmtree(beside)
        if not path.exists():
            raise


def _reserve(path: Path) -> None:
    """Take the room on disk now: a full disk is an OSError here, but would kill a process that
    writes to the map.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """What the values look like after a round trip through meta.json (tuples as lists, paths as
    text).
    """
    return json.loads(json.dumps(values, default=str))


def differences(wanted: dict[str, Any], found: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each value that differs: "key: old there, new now"."""
    lines = []
    for key in sorted(wanted.keys() | found.keys()):
        new, old = wanted.get(key), found.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            lines += differences(new, old, f"{prefix}{key}.")
        elif new != old:
            lines.append(f"{prefix}{key}: {old!r} there, {new!r} now")
    return lines


def _flush(array: np.ndarray) -> None:
    if isinstance(array, np.memmap):
        array.flush()
