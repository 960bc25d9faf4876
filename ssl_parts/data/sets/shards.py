"""Tar shards in WebDataset's naming (KEY.jpg, KEY.cls), read at random: each shard is indexed once
and then read through a memory map, so a million images are a few hundred files to the file system
and nothing is unpacked.

Shards below root are *.tar; their names, or else their folders, say the split: train-000000.tar,
train/00000.tar, imagenet1k-validation-00.tar. KEY.cls holds the number of the class; classes.txt
beside the shards, or below root, names them, one a line.
"""

import hashlib
import mmap
from collections import Counter
from pathlib import Path

import numpy as np

from ssl_parts.data.index_cache import index_file, load_index, save_index
from ssl_parts.data.sets.archive import Census, open_root, read_lines
from ssl_parts.data.sets.image_files import ImageFiles
from ssl_parts.data.sets.remarks import counted, first_of, tallied
from ssl_parts.data.sets.shard_index import ODDITIES, ShardIndex, read_shard
from ssl_parts.data.sets.split_names import split_of
from ssl_parts.data.sets.splits import choose_split
from ssl_parts.data.sets.tree import visit
from ssl_parts.errors import DataError

VERSION = 2
ORDER = ("train", "val", "test")


class Shards(ImageFiles):
    """Images in tar shards; a `PartsDataset`. `paths` are SHARD/KEY.jpg.

    Args:
        root: the folder of the shards.
        split: train, val, test as the shards are named; fit and val are a seeded cut of train
            where no shard is val. Shards whose names say no split are train where no name says
            train.
        seed: of the cut.

    Raises:
        DataError: no shard, a compressed or damaged one, a shard without images, a class that is
            no number, a shard whose name and folder say different splits.
    """

    name = "shards"

    def __init__(self, root: str | Path | None, split: str = "train", seed: int = 0) -> None:
        root = open_root(self.name, root)
        remarks: list[str] = []
        shards, says = _find(root, remarks)
        found = [_index(shard) for shard in shards]
        shard_N = np.repeat(np.arange(len(shards)), [len(index.names) for index in found])
        numbers = np.concatenate([index.label_N for index in found])
        names = [
            f"{shard.relative_to(root).as_posix()}/{n}"
            for shard, i in zip(shards, found)
            for n in i.names
        ]
        split_N = np.array(says, dtype=object)[shard_N]
        official = {name: np.flatnonzero(split_N == name) for name in ("train", *says)}
        labels, classes = _classes(root, shards, numbers)
        rows = choose_split(self.name, split, official, labels, names, seed)
        census = Census(root, len(names), [], None)
        super().__init__(split, root, [names[i] for i in rows], labels[rows], classes, census)
        self.account = _account(root, shards, says, official, len(classes))
        for remark in (*remarks, *_oddities(found, labels)):
            self.remarks.say(f"{root}: {remark}")
        self._shards, self._shard = shards, shard_N[rows]
        self._offset = np.concatenate([index.offset_N for index in found])[rows]
        self._size = np.concatenate([index.size_N for index in found])[rows]
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
        return {**self.__dict__, "_maps": {}}  # a process opens its own maps


def _state(shard: Path) -> str:
    state = shard.stat()
    return f"{VERSION} {shard.resolve()} {state.st_size} {state.st_mtime_ns}"


def _index(shard: Path) -> ShardIndex:
    """Kept between runs, as long as the shard is the same."""
    file = index_file("shard", _state(shard))
    kept = load_index(file)
    index = ShardIndex.of(kept, shard.stat().st_size) if kept is not None else None
    if index is None:
        index = read_shard(shard)
        save_index(file, index.arrays())
    return index


def _find(root: Path, remarks: list[str]) -> tuple[list[Path], list[str]]:
    """(shards, the split of each). Shards that say no split are train where none says train, else
    left out.
    """
    tars, packed = [], []
    for prefix, files in visit(root, []):
        tars += [root / prefix / f for f in files if f.lower().endswith(".tar")]
        packed += [f for f in files if ".tar." in f.lower() or f.lower().endswith(".tgz")]
    hint = f"{first_of(packed)}: compressed, which cannot be read at random; decompress first"
    if not tars:
        raise DataError(f"shards: no *.tar below {root}{f'; {hint}' if packed else ''}")
    if packed:
        remarks.append(f"{counted(len(packed), 'archive')} left out ({hint})")
    says = {tar: _split_of(tar, root) for tar in sorted(tars)}
    silent = [tar for tar, split in says.items() if split is None]
    if silent and any(says.values()):
        leave_out = "train" in says.values()
        names = first_of(tar.relative_to(root).as_posix() for tar in silent)
        taken = "left out" if leave_out else "taken for train"
        remarks.append(
            f"{counted(len(silent), 'shard')} without the name of a split {taken}: {names}"
        )
        says = {tar: split for tar, split in says.items() if split or not leave_out}
    shards = {tar: split or "train" for tar, split in says.items()}
    return list(shards), list(shards.values())


def _split_of(shard: Path, root: Path) -> str | None:
    """What the name of a shard says, else the folder nearest to it.

    Raises:
        DataError: name and folder disagree.
    """
    folders = reversed(shard.relative_to(root).parts[:-1])
    folder = next((said for f in folders if (said := split_of(f)) is not None), None)
    name = split_of(shard.stem)
    if name is not None and folder is not None and name.split != folder.split:
        raise DataError(
            f"shards: the name of {shard} says split {name.split}, its folder {folder.split}; rename one of them"
        )
    said = name or folder
    return None if said is None else said.split


def _account(
    root: Path, shards: list[Path], says: list[str], official: dict[str, np.ndarray], classes: int
) -> list[str]:
    """What was taken for what, a sentence per split."""
    account = []
    for split in (s for s in ORDER if s in says):
        named = [
            shard.relative_to(root).as_posix() for shard, said in zip(shards, says) if said == split
        ]
        images, files = counted(len(official[split]), "image"), counted(len(named), "shard")
        account.append(f"split {split}: {images} in {files} ({first_of(named, 2)})")
    return [*account, f"{counted(classes, 'class', 'classes')}" if classes else "no classes"]


def _oddities(found: list[ShardIndex], labels: np.ndarray) -> list[str]:
    """What is left out of the shards or is odd in them."""
    counts: Counter = sum((Counter(index.counts) for index in found), Counter())
    said = [what.format(n=f"{counts.pop(what):,}") for what in ODDITIES if counts[what]]
    if counts:
        said.append(f"left out, members with other suffixes: {tallied(counts)}")
    unlabelled = int((labels < 0).sum())
    if 0 < unlabelled < len(labels):
        said.append(f"{unlabelled:,} of {len(labels):,} pictures have no class (KEY.cls)")
    elif unlabelled and counts:
        said.append("no picture has a class: classes are read from KEY.cls alone")
    return said


def _classes(root: Path, shards: list[Path], numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(labels, names of the classes). Without a list of names only the numbers that occur are
    classes.
    """
    file = next(
        (p for p in (root / "classes.txt", shards[0].parent / "classes.txt") if p.is_file()), None
    )
    used = np.unique(numbers[numbers >= 0])
    if file is None:
        labels = np.where(numbers >= 0, np.searchsorted(used, numbers), -1)
        return labels, [str(number) for number in used.tolist()]
    names = read_lines(file)
    if len(used) and used[-1] >= len(names):
        raise DataError(f"{file} names {len(names)} classes, but the shards hold class {used[-1]}")
    return numbers, names if len(used) else []
