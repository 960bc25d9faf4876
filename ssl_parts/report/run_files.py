"""What a run has left on disk so far, read without the data set, the encoder or torch."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from evaluation.results import Measure, Results, Row, read_results
from evaluation.tables import values_by_arm
from ssl_parts.errors import DataError

ARM_OF_FOLDER = {"base": "base", "control": "base + instance contrast"}
OURS = "base + PARTICLE"


@dataclass(frozen=True)
class RunFiles:
    """A run's files; what is not there (yet) is empty, and `gaps` says so in sentences."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    rows: list[Row]
    sections: dict[str, Any]  # of results.json beside its rows
    gaps: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(
            self.config.get("run", {}).get("name") or self.sections.get("run") or self.folder.name
        )

    @cached_property
    def arms(self) -> dict[str, dict[str, Measure]]:
        """Arm → "PROTOCOL.MEASURE" → measure."""
        return values_by_arm(self.rows)

    @property
    def ours(self) -> str:
        """The row of the run's result."""
        method = self.config.get("objective", {}).get("method", "particle")
        return OURS if method == "particle" else f"base + {method}"

    @property
    def data_name(self) -> str:
        return str(self.config.get("data", {}).get("name", ""))

    def phases(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the log that belong to a step, by phase, in the order in which phases began."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.metrics:
            if isinstance(row.get("step"), int):
                found.setdefault(str(row.get("phase", "training")), []).append(row)
        return found

    def part_rounds(self) -> dict[int, dict[str, Any]]:
        """Statistics of the discovered parts, by round."""
        found = {}
        for row in self.metrics:
            words = str(row.get("phase", "")).split()
            if len(words) == 2 and words[0] == "parts" and words[1].isdigit():
                found[int(words[1])] = {key: value for key, value in row.items() if key != "phase"}
        return found

    def part_pictures(self) -> dict[int, Path]:
        """parts.png of each round that has one."""
        return {
            int(path.parent.name.split("_")[1]): path
            for path in sorted(self.folder.glob("round_[0-9]*/parts.png"))
        }


def read_run(folder: Path | str) -> RunFiles:
    """Read what is there of a run, finished or not.

    Raises:
        DataError: the folder holds no run: none of config.yaml, metrics.jsonl and results.json.
    """
    folder = Path(folder)
    if not any(
        (folder / name).is_file() for name in ("config.yaml", "metrics.jsonl", "results.json")
    ):
        inside = sorted(str(path.parent.name) for path in folder.glob("*/config.yaml"))
        hint = f"; did you mean one of its runs {', '.join(inside[:5])}?" if inside else ""
        raise DataError(
            f"{folder} holds no run (no config.yaml, metrics.jsonl or results.json){hint}"
        )
    gaps: list[str] = []
    rows, sections = _read_rows(folder, gaps)
    return RunFiles(
        folder=folder,
        config=_read_object(folder / "config.yaml", gaps),
        environment=_read_object(folder / "environment.json", gaps),
        metrics=_read_lines(folder / "metrics.jsonl", gaps),
        rows=rows,
        sections=sections,
        gaps=gaps,
    )


def runs_below(folder: Path | str) -> list[Path]:
    """The folder itself if it is one run, else the runs of several seeds that launch/compare.py
    keeps below it.
    """
    folder = Path(folder)
    seeds = sorted(path.parent for path in folder.glob("seed_*/config.yaml"))
    return [folder] if (folder / "config.yaml").is_file() or not seeds else seeds


def _read_rows(folder: Path, gaps: list[str]) -> tuple[list[Row], dict[str, Any]]:
    """Rows and sections of results.json; the arms evaluated so far where the run goes on."""
    path = folder / "results.json"
    if path.is_file():
        found = _read_results(path, gaps)
        if found is not None and found.rows:
            return found.rows, found.extra
        extra = {} if found is None else found.extra
    else:
        gaps.append("results.json is not there.")
        extra = {}
    return _evaluated_so_far(folder, gaps), extra


def _read_results(path: Path, gaps: list[str]) -> Results | None:
    try:
        return read_results(path)
    except DataError as error:
        gaps.append(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}")
        return None


def _evaluated_so_far(folder: Path, gaps: list[str]) -> list[Row]:
    """Rows of the arms whose evaluation is finished although the run is not."""
    rows = []
    for path in sorted((folder / "evaluation").glob("*.json")):
        found = _read_results(path, gaps)
        for row in [] if found is None else found.rows:
            rows.append(row if row.name else replace(row, name=ARM_OF_FOLDER.get(path.stem, OURS)))
    return rows


def _read_object(path: Path, gaps: list[str]) -> dict[str, Any]:
    """A JSON or YAML mapping; {} and a sentence where there is none."""
    if not path.is_file():
        gaps.append(f"{path.name} is not there.")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        gaps.append(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}")
        return {}
    if not isinstance(content, dict):
        gaps.append(f"{path.name} holds {type(content).__name__} instead of names and values.")
        return {}
    return content


def _read_lines(path: Path, gaps: list[str]) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; a line that a killed run left half-written is counted and left out."""
    if not path.is_file():
        gaps.append("metrics.jsonl is not there: nothing was logged yet.")
        return []
    rows, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            damaged += 1
    if damaged:
        gaps.append(
            f"{damaged} damaged line{'s' if damaged > 1 else ''} of metrics.jsonl left out."
        )
    return rows
