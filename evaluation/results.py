"""results.json: what was measured, under which protocol, on what, by which code. One row an
encoder and protocol.

A row is plain JSON; `Row` names its fields. Values are fractions; tables print percent.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_parts.errors import DataError

SCHEMA = 1


@dataclass(frozen=True)
class Measure:
    """A figure with its repetitions: draws of labelled images, folds, or seeds of pretraining."""

    mean: float
    sd: float | None  # sample deviation over `values`; None for a single one
    values: list[float]
    interval: list[float] | None = None  # 95 %, where the protocol states one

    @classmethod
    def of(cls, values: Sequence[float], interval: Sequence[float] | None = None) -> "Measure":
        """Mean and sample standard deviation of repetitions."""
        numbers = [float(v) for v in values]
        if not numbers:
            raise DataError("a measure needs at least one value")
        sd = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        return cls(
            float(np.mean(numbers)),
            sd,
            numbers,
            list(map(float, interval)) if interval is not None else None,
        )


@dataclass(frozen=True)
class Row:
    """One encoder under one protocol."""

    name: str  # the arm: "base", "base + PARTICLE", a file
    protocol: str  # id in evaluation/PROTOCOLS.md
    version: int  # of that protocol; raised when its numbers change
    data: str  # name of the data set
    splits: dict[str, int]  # images used: {"train": 300, "val": 0, "test": 243}
    resolution: int  # side of the square in pixels
    fit: str  # how an image becomes the square
    layer: str  # stage(s) that were read
    pooling: str  # how a vector was made of the last map; "" for dense protocols
    selection: str  # how hyper-parameters were chosen: "none: C=1", "validation: 10 % of train"
    seeds: list[int]  # of draws, folds or pretraining
    values: dict[str, Measure]
    settings: dict[str, Any] = field(default_factory=dict)  # every other setting of the protocol
    encoder: dict[str, Any] = field(default_factory=dict)  # name, weights' hash
    commit: str | None = None  # of the code, with + where the tree had changes
    config_hash: str | None = None
    seconds: float = 0.0

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Row":
        """The row of a dictionary.

        Raises:
            DataError: a field is missing or unknown.
        """
        try:
            values = {key: Measure(**value) for key, value in raw["values"].items()}
            return cls(**{**raw, "values": values})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not a row of results.json: {error}") from error


def config_hash(config: Any) -> str:
    """12 hex digits of a configuration as JSON with sorted keys; enums and paths by name."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12]


def save_results(path: Path | str, rows: Mapping[str, Any] | Iterable[Row], **extra: Any) -> None:
    """Write results.json atomically: a sibling temporary file, flushed, renamed.

    Args:
        path: the file; its folder is made.
        rows: `Row`s, or a dictionary that holds what the caller wants to keep (it is written as it
            is).
        extra: further top-level keys, as command or seconds.
    """
    path = Path(path)
    content = dict(rows) if isinstance(rows, Mapping) else {"rows": [asdict(row) for row in rows]}
    document = {"schema": SCHEMA, **content, **extra}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(_finite(document), file, indent=1, default=str)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_results(path: Path | str) -> dict[str, Any]:
    """What `save_results` wrote, with `rows` as a list of `Row`s where they are rows.

    Raises:
        DataError: no such file, not JSON, or written by a newer schema.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a results file: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        seen = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{path} has results schema {seen!r}; this version reads {SCHEMA}")
    if isinstance(document.get("rows"), list):
        document["rows"] = [Row.from_json(row) for row in document["rows"]]
    return document


def _finite(value: Any) -> Any:
    """NaN and infinity become null: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return value


def combine(rows: Sequence[Row], seeds: Sequence[int]) -> Row:
    """One row of several whose encoders were trained with these seeds: each value's mean and
    spread over the seeds.

    Raises:
        DataError: the rows differ in protocol, data or resolution.
    """
    if len(rows) != len(seeds) or not rows:
        raise DataError(f"{len(rows)} rows cannot be combined over {len(seeds)} seeds")
    first = rows[0]
    for row in rows[1:]:
        for key in (
            "protocol",
            "version",
            "data",
            "splits",
            "resolution",
            "fit",
            "layer",
            "pooling",
            "selection",
        ):
            if getattr(row, key) != getattr(first, key):
                raise DataError(
                    f"rows of {first.name} differ in {key}: {getattr(first, key)} and {getattr(row, key)}"
                )
    values = {key: Measure.of([row.values[key].mean for row in rows]) for key in first.values}
    kept = asdict(first) | {"encoder": {"name": first.encoder.get("name")}}
    return Row(
        **(
            kept
            | {"values": values, "seeds": list(seeds), "seconds": sum(row.seconds for row in rows)}
        )
    )


def format_measure(measure: Measure | Mapping[str, Any] | float | None) -> str:
    """Percent, with the deviation where there are repetitions: "41.2 ± 0.8"."""
    if isinstance(measure, Mapping):
        measure = Measure(**measure)
    if isinstance(measure, int | float):
        measure = Measure.of([float(measure)])
    if measure is None or measure.mean is None or math.isnan(measure.mean):
        return "–"
    spread = "" if measure.sd is None else f" ± {100 * measure.sd:.1f}"
    return f"{100 * measure.mean:.1f}{spread}"


def format_table(
    rows: Mapping[str, Any] | Sequence[Row],
    columns: Mapping[str, str] | None = None,
    notes: bool = True,
) -> str:
    """A Markdown table that also reads well in a terminal: one line an arm, one column a value,
    all in percent.

    Args:
        rows: `Row`s; or name → a dictionary with "values" (as `evaluate_encoder` returns) or of
            values.
        columns: value → heading, in order; all values by their own names otherwise.
        notes: end with what the numbers are: images, resolution, seeds.
    """
    lines = _as_lines(rows)
    keys = (
        list(columns)
        if columns
        else list(dict.fromkeys(key for _, values, _ in lines for key in values))
    )
    heads = ["", *((columns or {}).get(key, key) for key in keys)]
    cells = [
        [name, *(format_measure(values.get(key)) for key in keys)] for name, values, _ in lines
    ]
    described = list(dict.fromkeys(note for _, _, note in lines if note)) if notes else []
    return "\n".join([markdown_table(heads, cells), *(["", *described] if described else [])])


def markdown_table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand below each other, the first to the left, the others to
    the right.
    """
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(_line(line, widths) for line in [heads, rule, *cells])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "| " + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:]))]) + " |"


def _as_lines(rows: Mapping[str, Any] | Sequence[Row]) -> list[tuple[str, Mapping[str, Any], str]]:
    """(name, values, note) for each line of the table."""
    if not isinstance(rows, Mapping):
        return [(row.name, row.values, describe(row)) for row in rows]
    lines = []
    for name, row in rows.items():
        values = row.get("values", row)
        lines.append((name, values, row.get("note", "") if "values" in row else ""))
    return lines


def describe(row: Row) -> str:
    """The protocol of a row in one sentence."""
    split = ", ".join(f"{count} {name}" for name, count in row.splits.items() if count)
    pooling = f", {row.pooling}" if row.pooling else ""
    seeds = f"seed {', '.join(map(str, row.seeds))}" if row.seeds else "no seed"
    repeated = [f"{row.settings[key]} {key}" for key in ("draws", "folds") if key in row.settings]
    return (
        f"{row.protocol} v{row.version} on {row.data} ({split} images, {row.resolution} px {row.fit}); "
        f"{row.layer}{pooling}; selection {row.selection}; {', '.join([*repeated, seeds])}."
    )
