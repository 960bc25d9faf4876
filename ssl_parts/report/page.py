"""Sections to one file of HTML."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ssl_parts.files import write_atomic
from ssl_parts.report.album_pages import album_sections
from ssl_parts.report.comparison import as_text, comparison_sections, comparison_table
from ssl_parts.report.content import Section
from ssl_parts.report.run_files import read_run
from ssl_parts.report.sections import (
    PICTURE_BYTES,
    curves_section,
    lead_of,
    monitors_section,
    parts_section,
    published_section,
    results_section,
    setup_section,
)
from ssl_parts.report.template import PAGE, STYLE


def write_report(folder: Path | str) -> Path:
    """Write report.html into a run's folder from the files that are there, and return its path.

    The page is one file: no network, no script, under 3 MB, light or dark as the reader's system
    is. A run that is not finished, not evaluated or without a control gets a page that says what
    is missing.

    Raises:
        DataError: the folder holds no run.
        OSError: the file cannot be written.
    """
    run = read_run(folder)
    album = album_sections(run, PICTURE_BYTES)
    drawn = any(section.anchor == "rounds" and section.pictures for section in album)
    parts = [] if drawn else [parts_section(run)]  # the album shows the same, larger
    before, after = (
        (results_section, published_section),
        (curves_section, monitors_section, setup_section),
    )
    sections = [*(s(run) for s in before), *parts, *album, *(s(run) for s in after)]
    return _write(run.folder / "report.html", f"Run {run.name}", lead_of(run), sections)


def write_comparison(folders: Sequence[Path | str], out: Path | str) -> Path:
    """Write one page with several runs side by side to `out`, and return its path.

    Raises:
        DataError: a folder holds no run.
    """
    runs = [read_run(folder) for folder in folders]
    lead = [f"{len(runs)} runs: {', '.join(run.name for run in runs)}."]
    return _write(Path(out), "Runs compared", lead, comparison_sections(runs))


def compared_as_text(folders: Sequence[Path | str]) -> str:
    """The table of `write_comparison` for the terminal.

    Raises:
        DataError: a folder holds no run.
    """
    return as_text(comparison_table([read_run(folder) for folder in folders]))


def render(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as text; everything but our own figures is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return (
        environment.from_string(PAGE)
        .render(title=title, lead=lead, sections=sections, style=STYLE)
        .lstrip()
    )


def _write(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> Path:

    write_atomic(path, render(title, lead, sections))
    return path
