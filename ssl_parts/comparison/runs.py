"""The runs below a folder, one line each: state, time, result."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.results import Row, read_results
from evaluation.tables import format_measure, headings, values_by_arm
from ssl_parts.errors import DataError

RESULTS, METRICS = "results.json", "metrics.jsonl"


@dataclass(frozen=True)
class RunLine:
    """What a run's folder says of it.

    Attributes:
        name: below the folder that was asked for.
        state: "finished", the phase and step of the last logged line, or "started".
        changed: seconds since 1970 of the last sign of life.
        result: the last arm's measures, as "linear, all labels 83.0"; "" for none.
    """

    name: str
    state: str
    changed: float
    result: str


def list_runs(folder: Path) -> list[RunLine]:
    """Every run at or below a folder, the last changed one first.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; runs are kept in run.dir, by default runs/")
    found = sorted(path.parent for path in folder.rglob("config.yaml"))
    lines = [read_run(run, folder) for run in found]
    return sorted(lines, key=lambda line: -line.changed)


def read_run(run: Path, folder: Path) -> RunLine:
    """One run's line; a file that cannot be read is the run's state."""
    signs = [path for name in ("config.yaml", METRICS, RESULTS) if (path := run / name).is_file()]
    changed = max(path.stat().st_mtime for path in signs)
    name = run.name if run == folder else run.relative_to(folder).as_posix()
    try:
        if (run / RESULTS).is_file():
            return RunLine(name, "finished", changed, summarise(read_results(run / RESULTS).rows))
        return RunLine(name, last_step(run / METRICS), changed, "")
    except (DataError, OSError, ValueError) as error:
        return RunLine(name, f"cannot be read: {error}", changed, "")


def last_step(metrics: Path) -> str:
    """The phase and the step of the last logged line."""
    lines = metrics.read_bytes().splitlines() if metrics.is_file() else []
    whole = [line for line in lines[-2:] if line.endswith(b"}")]  # the last may be half written
    if not whole:
        return "started"
    last = json.loads(whole[-1])
    return f"{last.get('phase')}, step {last.get('step')}"


def summarise(rows: Sequence[Row]) -> str:
    """The measures of the last arm."""
    if not rows:
        return ""
    columns = headings(rows)
    values = values_by_arm(rows)[rows[-1].name]
    return ", ".join(f"{columns[k]} {format_measure(v)}" for k, v in values.items() if k in columns)


def runs_as_text(lines: Sequence[RunLine]) -> str:
    """A table for the terminal."""
    if not lines:
        return "No run here."
    rows = [("run", "state", "last sign of life", "result")]
    for line in lines:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(line.changed))
        rows.append((line.name, line.state, when, line.result))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
