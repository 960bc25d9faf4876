"""Reading an archive as it was unpacked: find it, read its lists, say what is missing. Nothing is
ever downloaded.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ssl_parts.data.sets.text import read_text
from ssl_parts.errors import ConfigError, DataError

SHOWN = 3


@dataclass(frozen=True)
class Published:
    """What the authors of a set say it holds."""

    images: int
    classes: int
    splits: dict[str, int]


@dataclass(frozen=True)
class Census:
    """What was found: `doctor` prints it beside what is published."""

    root: Path
    listed: int
    missing: list[str]  # files that are listed and not there, relative to root
    published: Published | None

    @property
    def complete(self) -> bool:
        return not self.missing and (self.published is None or self.listed == self.published.images)


def find_root(
    name: str, root: str | Path | None, marks: Sequence[str], inner: Sequence[str] = ()
) -> Path:
    """The folder that holds all of `marks`: root itself, or one of the folders that the archive
    unpacks to.

    Raises:
        ConfigError, DataError: as `open_root`.
        DataError: nowhere all marks; says where it looked and what is there instead.
    """
    root = open_root(name, root)
    places = [root, *(root / folder for folder in inner)]
    for place in places:
        if all((place / mark).exists() for mark in marks):
            return place
    lacking = [mark for mark in marks if not (root / mark).exists()]
    raise DataError(
        f"{name}: {' and '.join(lacking)} not found in {' nor in '.join(map(str, places))}; data.root holds "
        f"{list_folder(root)}. Point data.root at the unpacked archive"
    )


def open_root(name: str, root: str | Path | None) -> Path:
    """The folder data.root, with ~ expanded.

    Raises:
        ConfigError: none given, or an empty one, which would be the working directory.
        DataError: no folder, or one that cannot be read.
    """
    if root is None or not str(root).strip():
        given = "not set" if root is None else "empty (an unset shell variable?)"
        raise ConfigError(f"data.root is {given}; {name} is read from a folder: data.root=DIR")
    try:
        place = Path(root).expanduser()
        os.listdir(place)
    except (OSError, RuntimeError, ValueError) as error:  # also ~ of nobody, and names with \0
        raise DataError(f"data.root={root} {_why_not(error)}") from error
    return place


def _why_not(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, NotADirectoryError):
        return "is a file, not a folder; unpack it and give the folder"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def list_folder(folder: Path, shown: int = 8) -> str:
    """What a folder holds, for messages."""
    there = sorted(os.listdir(folder))
    more = f" and {len(there) - shown} more" if len(there) > shown else ""
    return ", ".join(there[:shown]) + more or "nothing"


def inside(root: Path, relative: str, source: str) -> Path:
    """root/relative, for a path that a list or an archive names.

    Raises:
        DataError: a path that is absolute or climbs out of root.
    """
    pure, windows = PurePosixPath(relative), PureWindowsPath(relative)
    if (
        pure.is_absolute()
        or windows.drive
        or windows.root
        or ".." in windows.parts
        or "\0" in relative
        or not pure.parts
    ):
        raise DataError(
            f"{source} names {relative!r}, which is not a path below {root}; names must be relative to it and stay "
            "below it, or the archive is damaged or hostile"
        )
    return root / pure


def missing_files(root: Path, relatives: Iterable[str]) -> list[str]:
    """Which of these files of a list are not below root, in order; each folder is listed once.

    Raises:
        DataError: a path that leaves root.
    """
    folders: dict[str, set[str]] = {}
    missing = []
    for relative in relatives:
        inside(root, relative, "a list of this set")
        parent, _, name = relative.rpartition("/")
        if parent not in folders:
            try:
                folders[parent] = set(os.listdir(root / parent))
            except OSError:
                folders[parent] = set()
        if name not in folders[parent]:
            missing.append(relative)
    return missing


def require_complete(name: str, census: Census, allow_partial: bool) -> None:
    """Raises DataError for a copy with fewer images than published, unless that is allowed."""
    if allow_partial or census.complete:
        return
    says = []
    if census.published is not None and census.listed != census.published.images:
        says.append(
            f"its lists name {census.listed:,} of the {census.published.images:,} published images"
        )
    if census.missing:
        first = ", ".join(census.missing[:SHOWN]) + (", ..." if len(census.missing) > SHOWN else "")
        says.append(f"{len(census.missing):,} listed files are not there ({first})")
    raise DataError(
        f"{name}: {census.root} is a partial copy: {' and '.join(says)}. Use what is there with "
        "data.allow_partial=true, or unpack the archive again"
    )


def read_lines(path: Path) -> list[str]:
    """Lines of a text list without surrounding space; empty ones are left out.

    Raises:
        DataError: unreadable file.
    """
    lines = read_text(path, "surrogateescape")[0].splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_rows(path: Path, columns: int) -> list[list[str]]:
    """Lines of a text list, cut at spaces into `columns` fields; the last keeps its spaces.

    Raises:
        DataError: unreadable file, or a line with fewer fields.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split(maxsplit=columns - 1)
        if len(fields) != columns:
            raise DataError(
                f"{path}, line {number}: {line[:80]!r} has {len(fields)} fields, not {columns}"
            )
        rows.append(fields)
    return rows


def read_table(path: Path, columns: int, kind: type = str) -> dict[str, list]:
    """`read_rows` keyed by the first field, the others converted by `kind`.

    Raises:
        DataError: as `read_rows`; a field that does not convert.
    """
    table = {}
    for key, *fields in read_rows(path, columns):
        try:
            table[key] = [kind(field) for field in fields]
        except ValueError as error:
            raise DataError(f"{path}, row {key!r}: {error}") from error
    return table
