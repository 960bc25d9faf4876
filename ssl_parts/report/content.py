"""The pieces a page is made of: sections with tables, charts, pictures, and sentences about what
is not there.
"""

from dataclasses import dataclass, field
from typing import Any

from ssl_parts.report.health import Finding


@dataclass(frozen=True)
class Cell:
    text: str
    small: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; `ours` sets it in bold."""

    cells: list[Cell]
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """Columns whose number is in `text` are set left."""

    heads: list[str]
    rows: list[Line]
    caption: str = ""
    text: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Chart:
    title: str
    svg: str
    text: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, or, with `gap`, why there is none."""

    title: str
    text: str = ""
    uri: str = ""
    width: int = 0
    height: int = 0
    wide: bool = False
    gap: str = ""


@dataclass(frozen=True)
class Folded:
    """What opens on a click."""

    title: str
    text: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    texts: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    folded: list[Folded] = field(default_factory=list)


def plain_table(
    heads: list[str], rows: list[list[Any]], caption: str = "", text: tuple[int, ...] = (0,)
) -> Table:
    return Table(heads, [Line([Cell(str(value)) for value in row]) for row in rows], caption, text)
