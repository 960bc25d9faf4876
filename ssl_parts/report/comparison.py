"""Several runs side by side: results, what was configured differently, curves, parts."""

from collections.abc import Sequence
from typing import Any

from evaluation.tables import headings
from ssl_parts.report.content import Cell, Chart, Line, Section, Table, plain_table
from ssl_parts.report.figures import line_chart
from ssl_parts.report.images import data_uris
from ssl_parts.report.recipe import NOT_TOLD, shown
from ssl_parts.report.run_files import RunFiles
from ssl_parts.report.sections import PICTURE_BYTES, WATCHED, arm_cells, curve_of, picture_of


def comparison_sections(runs: Sequence[RunFiles]) -> list[Section]:
    return [_results(runs), _differences(runs), _curves(runs), _parts(runs)]


def comparison_table(runs: Sequence[RunFiles]) -> Table:
    """One line per run and arm; the small print is the difference to the base of the same run."""
    columns = headings([row for run in runs for row in run.rows])
    lines = [
        Line([Cell(run.name), *arm_cells(run, arm, list(columns))], ours=arm == run.ours)
        for run in runs
        for arm in run.arms
    ]
    caption = "Percent; mean ± deviation over draws. Below: difference to the base encoder of the same run."
    return Table(["run", "encoder", *columns.values()], lines, caption, text=(0, 1))


def as_text(table: Table) -> str:
    """A table as Markdown, for the terminal; small print in brackets."""
    cells = [
        table.heads,
        *(
            [f"{c.text} ({c.small})" if c.small else c.text for c in line.cells]
            for line in table.rows
        ),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.heads))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )


def _results(runs: Sequence[RunFiles]) -> Section:
    gaps = [f"{run.name} has no results yet." for run in runs if not run.rows]
    table = comparison_table(runs)
    return Section("results", "Results", tables=[table] if table.rows else [], gaps=gaps)


def _differences(runs: Sequence[RunFiles]) -> Section:
    """Keys that are not the same in all runs."""
    flat = [_flat(run.config) for run in runs]
    keys = [
        key for key in dict.fromkeys(k for config in flat for k in config) if key not in NOT_TOLD
    ]
    differing = [key for key in keys if len({shown(config.get(key)) for config in flat}) > 1]
    rows = [[key, *(shown(config.get(key)) for config in flat)] for key in differing]
    table = plain_table(
        ["key", *(run.name for run in runs)], rows, text=tuple(range(len(runs) + 1))
    )
    gaps = [] if rows else ["The configurations are the same."]
    return Section(
        "differences", "What was configured differently", tables=[table] if rows else [], gaps=gaps
    )


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and value
        found |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def _curves(runs: Sequence[RunFiles]) -> Section:
    """The loss and the monitors of the last phase that each run has, in one figure each."""
    charts = []
    last = {run.name: list(run.phases().items())[-1] for run in runs if run.phases()}
    for key, text in {"loss": "", **WATCHED}.items():
        known = {f"{name}, {phase}": curve_of(rows, key) for name, (phase, rows) in last.items()}
        curves = {name: curve for name, curve in known.items() if curve[0]}
        if curves:
            charts.append(Chart(key, line_chart(curves, f"{key} by step"), text))
    gaps = [f"{run.name} has logged no step yet." for run in runs if run.name not in last]
    return Section("curves", "Curves of the last phase", charts=charts, gaps=gaps)


def _parts(runs: Sequence[RunFiles]) -> Section:
    """The parts of each run's last round."""
    last = {run.name: list(run.part_pictures().items())[-1] for run in runs if run.part_pictures()}
    uris = data_uris([path for _, path in last.values()], PICTURE_BYTES)
    pictures = [
        picture_of(f"{name}, round {number}", uris[path], wide=True)
        for name, (number, path) in last.items()
    ]
    gaps = [f"{run.name} has no picture of parts yet." for run in runs if run.name not in last]
    return Section("parts", "Parts of the last round", pictures=pictures, gaps=gaps)
