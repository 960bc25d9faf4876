"""results.json: what was measured, under which protocol, on what, by which code.

One shape for all commands: `version`, `command`, `rows` (one row per encoder and protocol) and
`extra` (sections of that command). `results.schema.json` beside this file is its JSON schema,
`read_results` its reader, which also reads what earlier versions wrote. Imports no torch.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from evaluation.earlier_results import as_version_2
from ssl_parts.errors import DataError
from ssl_parts.files import write_atomic

VERSION = 2
Command = Literal["pretrain", "compare", "evaluate", "finetune", "heads", "discover"]
# fraction: of 1, printed in percent (accuracy, IoU, NMI, ARI). percent, number: printed as they are
Unit = Literal["fraction", "percent", "number"]


@dataclass(frozen=True)
class Measure:
    """A figure with its repetitions: draws of labelled images, folds, or seeds of pretraining."""

    mean: float
    sd: float | None  # sample deviation over `values`; None for a single one
    values: list[float]
    interval: list[float] | None = None  # 95 %, where the protocol states one
    unit: Unit = "fraction"

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        interval: Sequence[float] | None = None,
        unit: Unit = "fraction",
    ) -> "Measure":
        """Mean and sample standard deviation of repetitions.

        Raises:
            DataError: no value.
        """
        numbers = [float(v) for v in values]
        if not numbers:
            raise DataError("a measure needs at least one value")
        sd = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        bounds = None if interval is None else [float(v) for v in interval]
        return cls(float(np.mean(numbers)), sd, numbers, bounds, unit)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Measure":
        """The measure of a dictionary; null stands for NaN.

        Raises:
            DataError: a field is missing or unknown, or a unit that is none.
        """
        try:
            measure = cls(**raw)
        except TypeError as error:
            raise DataError(f"not a measure of results.json: {error}") from error
        if measure.unit not in get_args(Unit):
            raise DataError(f"unit {measure.unit!r} is none of {', '.join(get_args(Unit))}")
        values = [_number(v) for v in measure.values]
        return replace(measure, mean=_number(measure.mean), values=values)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


@dataclass(frozen=True)
class Row:
    """One encoder under one protocol."""

    name: str  # the arm: "base", "base + PARTICLE", a file
    protocol: str  # id in evaluation/PROTOCOLS.md
    version: int  # of that protocol; raised when its numbers change. 0: not recorded
    data: str  # name of the data set, as tables call it
    splits: dict[str, int]  # images used: {"train": 300, "val": 0, "test": 243}
    resolution: int  # side of the square in pixels; 0: not recorded
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

    def measured_with(self, protocol: str, settings: Mapping[str, Any]) -> bool:
        """Whether the row is of this protocol with these settings, beside what it chose itself."""
        own = {key: value for key, value in self.settings.items() if key != "chosen"}
        return self.protocol == protocol and own == dict(settings)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Row":
        """The row of a dictionary.

        Raises:
            DataError: a field is missing or unknown.
        """
        try:
            values = {key: Measure.from_json(value) for key, value in raw["values"].items()}
            return cls(**{**raw, "values": values})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not a row of results.json: {error}") from error


@dataclass(frozen=True)
class Results:
    """What a results.json holds.

    extra: sections by name; which ones a command writes stands in docs/run_folder.md.
    """

    command: Command
    rows: list[Row]
    extra: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION


def config_hash(config: Any) -> str:
    """12 hex digits of a configuration as JSON with sorted keys; enums and paths by name."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12]


def save_results(path: Path | str, command: Command, rows: Iterable[Row], **extra: Any) -> Results:
    """Write results.json so that a reader sees the old or the new file, never half of one.

    Args:
        path: the file; its folder is made.
        command: which command measured.
        extra: further sections, as seconds or differences.

    Returns:
        what was written.
    """
    path = Path(path)
    results = Results(command, list(rows), extra)
    document = {
        "version": results.version,
        "command": command,
        "rows": [asdict(row) for row in results.rows],
        "extra": extra,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(_finite(document), indent=1, default=str))
    return results


def _finite(value: Any) -> Any:
    """NaN and infinity become null: JSON has neither."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def combine(rows: Sequence[Row], seeds: Sequence[int]) -> Row:
    """Join rows whose encoders were trained with these seeds: each value's mean and spread over
    the seeds.

    Raises:
        DataError: the rows differ in protocol, data or resolution.
    """
    if len(rows) != len(seeds) or not rows:
        raise DataError(f"{len(rows)} rows cannot be combined over {len(seeds)} seeds")
    first = rows[0]
    for row in rows[1:]:
        for key in COMPARABLE:
            if getattr(row, key) != getattr(first, key):
                raise DataError(
                    f"rows of {first.name} differ in {key}: {getattr(first, key)} and "
                    f"{getattr(row, key)}"
                )
    values = {
        key: Measure.of([row.values[key].mean for row in rows], unit=measure.unit)
        for key, measure in first.values.items()
    }
    return replace(
        first,
        values=values,
        seeds=list(seeds),
        encoder={"name": first.encoder.get("name")},
        seconds=sum(row.seconds for row in rows),
    )


def combine_seeds(tables: Mapping[int, Sequence[Row]]) -> list[Row]:
    """Rows of the same arms and protocols, measured for each seed, joined over the seeds.

    Args:
        tables: seed → the rows of its run.

    Raises:
        DataError: as `combine`; a seed without one of the rows of the first.
    """
    by_seed = {
        seed: {(row.name, row.protocol): row for row in rows} for seed, rows in tables.items()
    }
    first = next(iter(by_seed.values()), {})
    for seed, rows in by_seed.items():
        missing = [key for key in first if key not in rows]
        if missing:
            name, protocol = missing[0]
            raise DataError(f"seed {seed} has no row of {name} under {protocol}")
    return [combine([rows[key] for rows in by_seed.values()], list(by_seed)) for key in first]


# what must be the same for rows to stand under one mean
COMPARABLE = (
    "protocol",
    "version",
    "data",
    "splits",
    "resolution",
    "fit",
    "layer",
    "pooling",
    "selection",
)


def read_results(path: Path | str) -> Results:
    """Read a results.json of any version.

    Raises:
        DataError: no such file, not JSON, no results, or of a later version.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a results file: {error}") from error
    document = as_version_2(document)
    version = document.get("version") if isinstance(document, dict) else type(document).__name__
    if version != VERSION:
        raise DataError(
            f"{path} has results version {version!r}; this release reads {VERSION} and earlier ones"
        )
    command, rows = document.get("command"), document.get("rows")
    if command not in get_args(Command) or not isinstance(rows, list):
        raise DataError(f"{path} is not a results file: it names no command, or holds no rows")
    return Results(
        cast(Command, command), [Row.from_json(row) for row in rows], document.get("extra") or {}
    )


def keep_earlier(path: Path, rows: Sequence[Row]) -> Path | None:
    """Move a results.json aside that was measured differently from `rows`, which are to replace it.

    The same measurement again is replaced; so is what can no longer be read.

    Returns:
        where the earlier file is now; None where there is nothing to keep.
    """
    try:
        earlier = read_results(path).rows
    except DataError:
        return None
    hashes = [[row.config_hash for row in each] for each in (earlier, rows)]
    if hashes[0] == hashes[1]:
        return None
    kept = path.with_name(f"results_{config_hash(hashes[0])}.json")
    path.replace(kept)
    return kept
