"""Tar shards in WebDataset's naming (KEY.jpg, KEY.cls), read at random: each shard is indexed once
and then read through a memory map, so a million images are a few hundred files to the file system
and nothing is unpacked.

Shards below root are *.tar; their names begin with the split, as train-000000.tar. KEY.cls holds
the number of the class; classes.txt beside the shards, or below root, names them, one a line.
"""

import hashlib
import mmap
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssl_parts.data.sets.archive import Census, find_root, read_lines
from ssl_parts.data.sets.folder import SPLIT_FOLDERS, SUFFIXES
from ssl_parts.data.sets.image_files import ImageFiles
from ssl_parts.data.sets.index_cache import (
    index_file,
    load_index,
    pack_names,
    save_index,
    unpack_names,
)
from ssl_parts.data.sets.splits import choose_split
from ssl_parts.errors import DataError

VERSION = 1


class Shards(ImageFiles):
    """Images in tar shards; a `PartsDataset`. `paths` are SHARD/KEY.jpg.

    Args:
        root: the folder of the shards.
        split: train, val, test as the shards are named; fit and val are a seeded cut of train
            where no shard is val. Shards whose names say no split are train.
        seed: of the cut.

    Raises:
        DataError: no shard, a compressed or damaged one, a shard without images, a class that is
            no number.
    """

    name = "shards"

    def __init__(self, root: str | Path | None, split: str = "train", seed: int = 0) -> None:
        root = find_root(self.name, root, ())
        shards = sorted(root.rglob("*.tar"))
        if not shards:
            packed = sorted(p.name for p in root.rglob("*.tar.*"))
            hint = (
                f"; {packed[0]} is compressed, which cannot be read at random: decompress it"
                if packed
                else ""
            )
            raise DataError(f"shards: no *.tar below {root}{hint}")
        found = [_index(shard) for shard in shards]
        shard_N = np.repeat(np.arange(len(shards)), [len(index["offset"]) for index in found])
        labels = np.concatenate([index["label"] for index in found])
        names = [
            f"{shard.relative_to(root).as_posix()}/{n}"
            for shard, i in zip(shards, found)
            for n in i["names"]
        ]
        official = _official(shards, shard_N)
        rows = choose_split(self.name, split, official, labels, names, seed)
        classes = _classes(root, shards, labels)
        census = Census(root, len(names), [], None)
        super().__init__(split, root, [names[i] for i in rows], labels[rows], classes, census)
        self._shards, self._shard = shards, shard_N[rows]
        self._offset = np.concatenate([index["offset"] for index in found])[rows]
        self._size = np.concatenate([index["size"] for index in found])[rows]
        self._maps: dict[int, mmap.mmap] = {}

    def file(self, i: int) -> Path:
        return self._shards[self._shard[i]]

    def encoded(self, i: int) -> memoryview:
        shard = int(self._shard[i])
        if shard not in self._maps:
            with self._shards[shard].open("rb") as stream:
                self._maps[shard] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        start = int(self._offset[i])
        return memoryview(self._maps[shard])[start : start + int(self._size[i])]

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for shard in self._shards:
            digest.update(_state(shard).encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_maps": {}}  # a process opens its own maps


def _state(shard: Path) -> str:
    state = shard.stat()
    return f"{VERSION} {shard.resolve()} {state.st_size} {state.st_mtime_ns}"


def _index(shard: Path) -> dict[str, object]:
    """Names, offsets, sizes and labels (-1 without .cls) of the images of a shard, in its order."""
    file = index_file("shard", _state(shard))
    kept = load_index(file)
    if kept is None:
        kept = _read_shard(shard)
        save_index(file, kept)
    return kept | {"names": unpack_names(kept["names"])}


def _read_shard(shard: Path) -> dict[str, np.ndarray]:
    length = shard.stat().st_size
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    with shard.open("rb") as stream:
        for member in _members(shard):
            if member.offset_data + member.size > length:
                raise DataError(
                    f"{shard} is cut short: {member.name} ends behind its end; fetch the shard again"
                )
            key, suffix = _key(member.name)
            if suffix in SUFFIXES:
                if key in images:
                    raise DataError(f"{shard} holds two images of the key {key!r}")
                images[key] = (member.name, member.offset_data, member.size)
            elif suffix == ".cls":
                stream.seek(member.offset_data)
                labels[key] = _class_number(
                    stream.read(min(member.size, 32)), f"{shard}, {member.name}"
                )
    if not images:
        raise DataError(f"{shard} holds no image (looked for KEY{', KEY'.join(SUFFIXES)})")
    names, offsets, sizes = zip(*images.values())
    return {
        "names": pack_names(list(names)),
        "offset": np.array(offsets, dtype=np.int64),
        "size": np.array(sizes, dtype=np.int64),
        "label": np.array([labels.get(key, -1) for key in images], dtype=np.int64),
    }


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """Plain files of an uncompressed tar; links, devices and sparse files are passed over, nothing
    is extracted.
    """
    try:
        with tarfile.open(shard, mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    yield member
    except (tarfile.TarError, ValueError, OSError) as error:
        raise DataError(
            f"{shard}: cannot read this tar ({error}); shards are uncompressed tar files"
        ) from error


def _key(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, _, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def _class_number(text: bytes, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{where}: {text[:20]!r} is not the number of a class") from None


def _official(shards: list[Path], shard_N: np.ndarray) -> dict[str, np.ndarray]:
    """Split → rows. Shards that name no split are train."""
    says = [
        SPLIT_FOLDERS.get(shard.stem.lower().rpartition("-")[0] or shard.stem.lower(), "train")
        for shard in shards
    ]
    split_N = np.array(says)[shard_N]
    return {"train": np.flatnonzero(split_N == "train")} | {
        split: np.flatnonzero(split_N == split) for split in set(says)
    }


def _classes(root: Path, shards: list[Path], labels: np.ndarray) -> list[str]:
    count = int(labels.max()) + 1
    file = next(
        (p for p in (root / "classes.txt", shards[0].parent / "classes.txt") if p.is_file()), None
    )
    names = read_lines(file) if file is not None else [str(k) for k in range(count)]
    if len(names) < count:
        raise DataError(f"{file} names {len(names)} classes, but the shards hold class {count - 1}")
    return names if count else []
