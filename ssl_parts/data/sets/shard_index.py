"""What a tar shard holds: where each picture is and its class. Nothing is extracted.

KEY.jpg is a picture and KEY.cls the number of its class; a key may hold dots. Of several pictures
of one key (KEY.jpg and KEY.png, or KEY.jpg and KEY.seg.png) one is used and the others are
counted.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssl_parts.data.index_cache import pack_names, unpack_names
from ssl_parts.data.sets.tree import SIDECARS, SUFFIXES, is_hidden, suffix_of
from ssl_parts.errors import DataError

CHUNK = 1 << 20  # bytes read at once behind the last member
# what is counted, as sentences
TWINS = "left out, pictures of a key that has another one (KEY.jpg and KEY.png): {n}"
COMPANIONS = "left out, pictures beside KEY.jpg with a longer key (masks, thumbnails): {n}"
SHARED = "pictures that share a KEY.cls with another: {n}"
LOST = "KEY.cls without a picture: {n}"
LINKS = "left out, links, devices and sparse files: {n}"
NO_END = "shards without an end mark, cut short or still being written: {n}"
ODDITIES = (TWINS, COMPANIONS, SHARED, LOST, LINKS, NO_END)


@dataclass(frozen=True)
class ShardIndex:
    """The pictures of a shard in its order.

    label_N: class numbers, -1 without KEY.cls. counts: what was left out or is odd, by its name
    above or by the suffix of other members.
    """

    names: list[str]
    offset_N: np.ndarray
    size_N: np.ndarray
    label_N: np.ndarray
    counts: dict[str, int]

    def arrays(self) -> dict[str, np.ndarray]:
        """For an index file."""
        return {
            "names": pack_names(self.names),
            "offset": self.offset_N,
            "size": self.size_N,
            "label": self.label_N,
            "what": pack_names(list(self.counts)),
            "number": np.array(list(self.counts.values()), dtype=np.int64),
        }

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], length: int) -> "ShardIndex | None":
        """From an index file; None where it does not fit a shard of so many bytes."""
        try:
            names = unpack_names(arrays["names"])
            offset, size, label = arrays["offset"], arrays["size"], arrays["label"]
            counts = dict(zip(unpack_names(arrays["what"]), arrays["number"].tolist()))
        except (KeyError, ValueError):
            return None
        fits = len(names) == len(offset) == len(size) == len(label)
        inside = fits and (offset >= 0).all() and (size >= 0).all()
        if not inside or (size > length - offset).any():
            return None
        return cls(names, offset, size, label, counts)


@dataclass
class _Found:
    """Pictures by key and suffix: (name, offset, size); class numbers by key."""

    pictures: dict[str, dict[str, tuple[str, int, int]]] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)


def read_shard(shard: Path) -> ShardIndex:
    """Read all headers of an uncompressed tar and its class numbers.

    Raises:
        DataError: unreadable, damaged or cut short; without pictures; a class that is no number;
            two members of one name.
    """
    found, length = _Found(), shard.stat().st_size
    with shard.open("rb") as stream:
        for member in _members(shard, found):
            if member.offset_data + member.size > length:
                raise DataError(
                    f"{shard} is cut short: {member.name} ends behind its end; fetch the shard "
                    f"again"
                )
            _take(member, found, stream, shard)
    if not found.pictures:
        raise DataError(f"{shard} holds no image (looked for KEY{', KEY'.join(SUFFIXES)})")
    return _choose(found)


def _members(shard: Path, found: _Found) -> Iterator[tarfile.TarInfo]:
    """Plain files that are not hidden; links, devices and sparse files are passed over."""
    try:
        with tarfile.open(shard, mode="r:") as archive:
            for member in archive:
                plain = member.isreg() and not member.issparse()
                parts = member.name.split("/")
                if any(is_hidden(part) for part in parts if part.strip(".")):
                    continue
                found.counts[LINKS] += not plain and not member.isdir()
                if plain:
                    yield member
            _check_end(shard, archive.offset, found)
    except DataError:
        raise
    except Exception as error:  # damaged headers raise nearly anything
        raise DataError(
            f"{shard}: cannot read this tar ({error}); shards are uncompressed tar files"
        ) from error


def _check_end(shard: Path, offset: int, found: _Found) -> None:
    """tarfile stops without a word at a header that it cannot read: what follows must be zeros."""
    with shard.open("rb") as stream:
        stream.seek(offset)
        rest = stream.read(CHUNK)
        found.counts[NO_END] += not rest
        while rest:
            if rest.strip(b"\0"):
                raise DataError(
                    f"{shard} is damaged at byte {offset:,}: what follows cannot be read; fetch "
                    f"the "
                    "shard again, or pack it again if it is two archives behind each other"
                )
            rest = stream.read(CHUNK)


def _take(member: tarfile.TarInfo, found: _Found, stream: BinaryIO, shard: Path) -> None:
    suffix = suffix_of(member.name)
    key = member.name[: len(member.name) - len(suffix)]
    if "\0" in member.name:
        raise DataError(
            f"{shard}: the name {member.name!r} holds a zero byte; pack the shard again"
        )
    if suffix in SUFFIXES:
        if suffix in found.pictures.setdefault(key, {}):
            raise DataError(f"{shard} holds {member.name} twice; pack the shard again")
        found.pictures[key][suffix] = (member.name, member.offset_data, member.size)
    elif suffix == ".cls":
        stream.seek(member.offset_data)
        text = stream.read(min(member.size, 32))
        found.labels[key] = _class_number(text, f"{shard}, {member.name}")
    elif suffix not in SIDECARS:
        found.counts[suffix or "without suffix"] += 1


def _class_number(text: bytes, where: str) -> int:
    if not re.fullmatch(rb"\s*(-1|\d{1,18})\s*", text):
        raise DataError(f"{where}: {text[:20]!r} is not the number of a class (0, 1, ...)")
    return int(text)


def _choose(found: _Found) -> ShardIndex:
    """One picture per key, with its class."""
    chosen, labels, shared = [], [], Counter()
    used = set()
    for key, by_suffix in found.pictures.items():
        short = _short(key)
        if short != key and short in found.pictures:
            found.counts[COMPANIONS] += len(by_suffix)
            continue
        found.counts[TWINS] += len(by_suffix) - 1
        chosen.append(by_suffix[min(by_suffix, key=SUFFIXES.index)])
        own = key if key in found.labels else short
        labels.append(found.labels.get(own, -1))
        used.add(own)
        shared[own] += own in found.labels
    found.counts[SHARED] += sum(number for number in shared.values() if number > 1)
    found.counts[LOST] += len(set(found.labels) - used)
    names, offsets, sizes = zip(*chosen)
    offset_N, size_N, label_N = (np.array(n, dtype=np.int64) for n in (offsets, sizes, labels))
    return ShardIndex(
        list(names), offset_N, size_N, label_N, {k: n for k, n in found.counts.items() if n}
    )


def _short(key: str) -> str:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]
