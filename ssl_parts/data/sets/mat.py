"""Annotations in MATLAB files, version 5 (what MATLAB saves with -v6 and -v7): numbers, text,
cells and structures.

Read here rather than by scipy.io.loadmat, which a damaged file takes down with a segmentation
fault (scipy 1.17). Every length is checked against what is there, and objects and function handles
are refused: nothing in a file is executed.

Layout: a header of 128 bytes, then elements: a tag (type, bytes) and its data, padded to 8 bytes.
A matrix is an element of elements: flags, dimensions, name, and the values or, for cells and
structures, further matrices.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ssl_parts.errors import DataError

MAX_BYTES = 256 << 20  # of a file, and of each compressed element in it
MAX_DEPTH = 8
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, TEXT, NUMERIC = 1, 2, 4, range(6, 16)  # classes of a matrix


class DamageError(Exception):
    """Why a file cannot be read."""


@dataclass
class _Reader:
    data: memoryview
    order: str  # "<" or ">"

    def elements(self) -> Iterator[tuple[int, "_Reader"]]:
        """(type, its data) of each element."""
        position = 0
        while position < len(self.data):
            kind, data, position = self._element(position)
            yield kind, _Reader(data, self.order)

    def _element(self, position: int) -> tuple[int, memoryview, int]:
        if position + 8 > len(self.data):
            raise DamageError("it is cut short")
        kind, length = struct.unpack_from(f"{self.order}II", self.data, position)
        if kind >> 16:  # a small element: type and length in one word, the data in the next
            kind, length, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
            if length > 4:
                raise DamageError("a length is wrong")
        else:
            start = position + 8
            end = start + length if kind == COMPRESSED else start + -(-length // 8) * 8
        if start + length > len(self.data):
            raise DamageError("it is cut short")
        return kind, self.data[start : start + length], min(end, len(self.data))

    def numbers(self, kind: int) -> np.ndarray:
        if kind not in NUMBERS or len(self.data) % int(NUMBERS[kind][1]):
            raise DamageError("numbers of an unknown type")
        return np.frombuffer(self.data, dtype=self.order + NUMBERS[kind])


def read_mat(path: Path, *names: str) -> list[Any]:
    """These variables of a .mat file: numbers as an array with singleton dimensions squeezed, text
    as str (a list of rows where there are several), cells as a list, structures as a list of
    dicts; lists run down the columns.

    Raises:
        DataError: unreadable or damaged file, another version, no such variable, one that is no
            plain data.
    """
    try:
        found = _read_variables(path, set(names))
    except OSError as error:
        raise DataError(f"{path}: cannot read this file ({error.strerror or error})") from error
    except (DamageError, zlib.error, UnicodeDecodeError, struct.error) as error:
        raise DataError(f"{path}: cannot read this .mat file: {error}") from error
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no variable {name!r}")
    return [found[name] for name in names]


def _read_variables(path: Path, names: set[str]) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        raise DamageError(f"{path.stat().st_size >> 20} MiB is far more than annotations have")
    data = path.read_bytes()
    if b"MATLAB 7.3" in data[:32]:
        raise DamageError("it is of version 7.3 (HDF5); save it again with -v7")
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise DamageError("it is no MATLAB file of version 5")
    found: dict[str, Any] = {}
    reader = _Reader(memoryview(data)[128:], "<" if data[126:128] == b"IM" else ">")
    for kind, element in reader.elements():
        if kind == COMPRESSED:
            kind, element = _decompress(element)
        if kind == MATRIX:
            name, value = _matrix(element, names, depth=0)
            found[name] = value
    return found


def _decompress(element: _Reader) -> tuple[int, _Reader]:
    stream = zlib.decompressobj()
    data = stream.decompress(element.data, MAX_BYTES)
    if stream.unconsumed_tail:
        raise DamageError(f"it decompresses to more than {MAX_BYTES >> 20} MiB")
    kind, inner, _ = _Reader(memoryview(data), element.order)._element(0)
    return kind, _Reader(inner, element.order)


def _matrix(reader: _Reader, names: set[str] | None, depth: int) -> tuple[str, Any]:
    """(name, value) of a matrix; the value is None where its name is not asked for."""
    if depth > MAX_DEPTH:
        raise DamageError("structures are nested too deeply")
    if len(reader.data) == 0:
        return "", np.zeros(0)
    parts = reader.elements()
    flags = _next(parts, numbers=True)
    class_ = int(flags[0]) & 0xFF if len(flags) else 0
    shape = [int(side) for side in _next(parts, numbers=True)]
    name = bytes(_next(parts).data).decode("latin-1")
    if names is not None and name not in names:
        return name, None
    count = prod(shape)
    if any(side < 0 for side in shape) or count > len(reader.data):
        raise DamageError(f"{name or 'a value'} claims {count} entries, more than the file holds")
    return name, _value(class_, shape, count, parts, name, depth)


def _value(
    class_: int, shape: list[int], count: int, parts: Iterator, name: str, depth: int
) -> Any:
    if class_ in NUMERIC:
        values = _next(parts, numbers=True)
        if len(values) != count:
            raise DamageError(f"{name or 'a value'} has {len(values)} numbers, not {count}")
        return np.squeeze(values.reshape(shape, order="F"))
    if class_ == TEXT:
        return _text(parts, shape, count)
    if class_ == CELL:
        return [_child(parts, depth) for _ in range(count)]
    if class_ == STRUCTURE:
        return _structures(parts, count, depth)
    raise DamageError(
        f"{name or 'a value'} is an object, a function or sparse; only plain data is read"
    )


def _text(parts: Iterator, shape: list[int], count: int) -> str | list[str]:
    kind, reader = next(parts, (0, None))
    if reader is None or kind not in TEXTS:
        raise DamageError("text of an unknown encoding")
    suffix = {"<": "-le", ">": "-be"}[reader.order] if TEXTS[kind] in ("utf-16", "utf-32") else ""
    letters = list(bytes(reader.data).decode(TEXTS[kind] + suffix))
    if len(shape) != 2 or len(letters) != count:
        raise DamageError("text of another length than it claims")
    rows = ["".join(letters[r :: shape[0]]).rstrip() for r in range(shape[0])] if shape[0] else [""]
    return rows[0] if len(rows) == 1 else rows


def _structures(parts: Iterator, count: int, depth: int) -> list[dict[str, Any]]:
    width = int(next(iter(_next(parts, numbers=True)), 0))
    names = bytes(_next(parts).data)
    if not 0 < width <= 1024 or len(names) % width:
        raise DamageError("names of fields are damaged")
    fields = [
        names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)
    ]
    return [{field: _child(parts, depth) for field in fields} for _ in range(count)]


def _child(parts: Iterator, depth: int) -> Any:
    kind, reader = next(parts, (0, None))
    if reader is None or kind != MATRIX:
        raise DamageError("a cell or field is not there")
    return _matrix(reader, None, depth + 1)[1]


def _next(parts: Iterator, numbers: bool = False) -> Any:
    kind, reader = next(parts, (0, None))
    if reader is None:
        raise DamageError("it is cut short")
    return reader.numbers(kind) if numbers else reader
