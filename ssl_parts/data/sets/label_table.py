"""labels.csv: which class each image has, as spreadsheets write it.

Rows are NAME.jpg,label. Comma, semicolon or tab; with or without a header, quotes, spaces, a mark
at the start, in UTF-8, UTF-16 or cp1252; names with or without images/, suffix, in either case and
with either slash.
"""

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ssl_parts.data.sets.name_match import NameMatch, alike, plain_path
from ssl_parts.data.sets.remarks import counted, first_of
from ssl_parts.data.sets.text import read_text
from ssl_parts.errors import DataError

SEPARATORS = (",", ";", "\t")
NAMES = (
    "filename",
    "file_name",
    "file",
    "image",
    "image_name",
    "img",
    "name",
    "path",
    "id",
    "image_id",
)
LABELS = ("label", "labels", "class", "class_name", "classname", "category", "species", "target")


def read_labels(
    file: Path, images: Sequence[str], below: str = "images/"
) -> tuple[list[str], list[str]]:
    """(label of each image, remarks).

    Args:
        images: names below images/, as they are on disk.
        below: what stands before them in messages.

    Raises:
        DataError: unreadable text; an image without a row or a label, or with two labels; rows of
            one field.
    """
    text, encoding = read_text(file)
    rows, name_at, label_at = _columns(_rows(file, text, images), file)
    labels: dict[str, tuple[str, int]] = {}
    for line, row in rows:
        if len(row) > max(name_at, label_at) and row[name_at].strip():
            label = unicodedata.normalize("NFC", row[label_at].strip())
            _add(labels, file, line, row[name_at], label)
    names = NameMatch(labels, bare=True)
    keys = {image: key for image in images if (key := names.find(image)) is not None}
    missing = [image for image in images if image not in keys]
    if missing:
        first = ",".join(rows[0][1]) if rows else ""
        more = f" and {counted(len(missing) - 1, 'image')} more" if len(missing) > 1 else ""
        raise DataError(
            f"{file} has no row for {below}{missing[0]}{more}; rows are NAME.jpg,label, and its "
            f"first is {first[:60]!r}"
        )
    found = [labels[keys[image]][0] for image in images]
    if "" in found:
        raise DataError(f"{file}: the label of {below}{images[found.index('')]} is empty")
    return found, _remarks(file, encoding, labels, set(keys.values()))


def _rows(file: Path, text: str, images: Sequence[str]) -> list[tuple[int, list[str]]]:
    """(line, fields) of the rows that are not empty, cut at the separator under which most rows
    name an image."""
    if "\0" in text:
        raise DataError(f"{file} holds zero bytes, so it is no text table; save it as UTF-8 again")
    names = NameMatch(images, bare=True)
    tables = [_cut(file, text, separator) for separator in SEPARATORS]
    scores = [
        sum(len(row) > 1 and any(names.find(_clean(f)) for f in row) for _, row in table)
        for table in tables
    ]
    best = tables[scores.index(max(scores))]
    if best and max(len(row) for table in tables for _, row in table) < 2:
        raise DataError(
            f"{file}: rows have one field ({best[0][1][0][:60]!r}), without a comma, semicolon or "
            "tab as separator; rows are NAME.jpg,label"
        )
    return best


def _cut(file: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        return [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise DataError(
            f"{file}: cannot read this table ({error}); save it as CSV again"
        ) from error


def _columns(
    rows: list[tuple[int, list[str]]], file: Path
) -> tuple[list[tuple[int, list[str]]], int, int]:
    """(rows without a header, column of names, column of labels)."""
    if not rows:
        return rows, 0, 1
    header = [field.strip().lower().replace(" ", "_") for field in rows[0][1]]
    label_at = next((header.index(name) for name in LABELS if name in header), None)
    name_at = next((header.index(name) for name in NAMES if name in header), None)
    if label_at is None and name_at is None:
        if max(len(row) for _, row in rows) > 2 and min(len(row) for _, row in rows) > 2:
            raise DataError(
                f"{file}: rows have {len(rows[0][1])} fields and no header that says which is the "
                "label; keep two columns, or name them name and label"
            )
        return rows, 0, 1
    if name_at is None:
        name_at = 0 if label_at else 1
    if label_at is None:
        label_at = (name_at + 1) % max(len(header), 2)
    return rows[1:], name_at, label_at


def _add(labels: dict[str, tuple[str, int]], file: Path, line: int, name: str, label: str) -> None:
    key = _clean(name)
    known = labels.get(key)
    if known is not None and known[0] != label:
        raise DataError(
            f"{file}: {name.strip()} is {known[0]!r} in line {known[1]} and {label!r} in line "
            f"{line}; keep one of them"
        )
    labels.setdefault(key, (label, line))


def _clean(name: str) -> str:
    """A name as it may stand in a table, as a path below images/."""
    return plain_path(name).removeprefix("images/")


def _remarks(
    file: Path, encoding: str, labels: dict[str, tuple[str, int]], used: set[str]
) -> list[str]:
    said = []
    if encoding == "cp1252":
        said.append(f"{file} is no UTF-8 and is read as Windows' cp1252")
    unused = [key for key in labels if key not in used]
    if unused:
        said.append(f"{file}: {counted(len(unused), 'row')} without an image: {first_of(unused)}")
    by_form: dict[str, set[str]] = {}
    for label, _ in labels.values():
        by_form.setdefault(alike(label), set()).add(label)
    twins = [first_of(names) for names in by_form.values() if len(names) > 1]
    if twins:
        said.append(f"{file}: classes that differ in capitals alone: {'; '.join(sorted(twins))}")
    return said
