"""Tables of rows for the terminal and for Markdown files, and paired differences between arms.

A measure's key is "PROTOCOL.MEASURE", such as "few_label.accuracy@5". Imports no torch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.paired import PairedTest, paired_test
from evaluation.results import Measure, Row, Unit


@dataclass(frozen=True)
class Column:
    """A measure that heads a table over several protocols.

    measure: regular expression of its name; what its group matches fills the heading.
    """

    protocol: str
    measure: str
    heading: str


COLUMNS = (
    Column("linear", "accuracy", "linear, all labels"),
    Column("linear_swept", "accuracy", "linear, C swept"),
    Column("few_label", r"accuracy@([\d.]+%)", "linear, {} of labels"),
    Column("few_label", r"accuracy@(\w+)", "linear, {} per class"),
    Column("knn", r"accuracy@k=(\d+)", "k-NN, k={}"),
    Column("parts", r"miou@(\w+)", "part mIoU, {} images"),
    Column("parts_decoder", r"miou@(\w+)", "part mIoU, decoder, {} images"),
    Column("parts_finetune", r"miou@(\w+)", "part mIoU, fine-tuned, {} images"),
    Column("retrieval", "miou", "part mIoU, retrieval"),
    Column("overcluster", r"miou@(\d+)", "part mIoU, {} clusters"),
    Column("finetune", "top1", "top-1"),
    Column("finetune", "top5", "top-5"),
    Column("finetune", "per_class", "class mean"),
)


def key_of(row: Row, measure: str) -> str:
    """The key of a row's measure."""
    return f"{row.protocol}.{measure}"


def headings(rows: Sequence[Row]) -> dict[str, str]:
    """Measures that head a table of these rows, with their headings, in the order of the rows.

    Those of `COLUMNS`; where none of them occurs, all measures by their own names.
    """
    found = {}
    for row in rows:
        for measure in row.values:
            heading = _heading(row.protocol, measure)
            if heading:
                found.setdefault(key_of(row, measure), heading)
    return found or all_headings(rows)


def all_headings(rows: Sequence[Row]) -> dict[str, str]:
    """All measures; named without their protocol where there is only one."""
    single = len({row.protocol for row in rows}) == 1
    return {
        key_of(row, measure): measure if single else f"{row.protocol} {measure}"
        for row in rows
        for measure in row.values
    }


def _heading(protocol: str, measure: str) -> str | None:
    for column in COLUMNS:
        match = re.fullmatch(column.measure, measure) if column.protocol == protocol else None
        if match:
            return column.heading.format(*match.groups())
    return None


def values_by_arm(rows: Sequence[Row]) -> dict[str, dict[str, Measure]]:
    """Arm → key → measure; several protocols of one arm stand together."""
    found: dict[str, dict[str, Measure]] = {}
    for row in rows:
        values = found.setdefault(row.name, {})
        values |= {key_of(row, measure): value for measure, value in row.values.items()}
    return found


def scale_of(unit: Unit) -> float:
    """What a value is multiplied by in tables: fractions are printed in percent."""
    return 100.0 if unit == "fraction" else 1.0


def format_measure(measure: Measure | None) -> str:
    """A measure as tables print it, with the deviation where there are repetitions: "41.2 ± 0.8".

    Fractions in percent, percents as they are, numbers with four digits.
    """
    if measure is None or math.isnan(measure.mean):
        return "–"
    scale, digits = scale_of(measure.unit), ".4g" if measure.unit == "number" else ".1f"
    spread = "" if measure.sd is None else f" ± {scale * measure.sd:{digits}}"
    return f"{scale * measure.mean:{digits}}{spread}"


def format_table(
    rows: Sequence[Row], columns: Mapping[str, str] | None = None, notes: bool = True
) -> str:
    """A Markdown table that also reads well in a terminal: one line per arm.

    Args:
        columns: key → heading, in order; all measures otherwise.
        notes: end with what the numbers are: images, resolution, seeds.
    """
    columns = columns or all_headings(rows)
    cells = [
        [name, *(format_measure(values.get(key)) for key in columns)]
        for name, values in values_by_arm(rows).items()
    ]
    described = list(dict.fromkeys(map(describe, rows))) if notes else []
    table = markdown_table(["", *columns.values()], cells)
    return "\n".join([table, *(["", *described] if described else [])])


def markdown_table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(_line(line, widths) for line in [heads, rule, *cells])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "| " + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:]))]) + " |"


def describe(row: Row) -> str:
    """The protocol of a row in one sentence; the note of an earlier version where it has one."""
    if "note" in row.settings:
        return str(row.settings["note"])
    split = ", ".join(f"{count} {name}" for name, count in row.splits.items() if count)
    pooling = f", {row.pooling}" if row.pooling else ""
    seeds = f"seed {', '.join(map(str, row.seeds))}" if len(row.seeds) <= 5 else _span(row.seeds)
    repeated = [f"{row.settings[key]} {key}" for key in ("draws", "folds") if key in row.settings]
    return (
        f"{row.protocol} v{row.version} on {row.data} ({split} images, "
        f"{row.resolution} px {row.fit}); {row.layer}{pooling}; selection {row.selection}; "
        f"{', '.join([*repeated, seeds if row.seeds else 'no seed'])}."
    )


def _span(seeds: Sequence[int]) -> str:
    return f"seeds {min(seeds)} to {max(seeds)}"


@dataclass(frozen=True)
class Difference:
    """What an arm gains over another one, seed by seed.

    tests: key → paired test of arm minus against. units: of the measures.
    """

    arm: str
    against: str
    tests: dict[str, PairedTest]
    units: dict[str, Unit]

    def as_json(self) -> dict[str, Any]:
        """The tests as plain JSON, with the verdict where there are several seeds."""
        return {
            key: asdict(test) | {"larger_than_spread": test.beyond_spread if test.n > 1 else None}
            for key, test in self.tests.items()
        }


def paired_difference(tables: Sequence[Sequence[Row]], arm: str, against: str) -> Difference:
    """Compare two arms that were trained with the same seeds.

    Args:
        tables: the rows of each seed.

    Raises:
        ConfigError: as `paired_test`.
    """
    by_seed = [values_by_arm(rows) for rows in tables]
    first = by_seed[0]
    shared = [key for key in first[arm] if key in first[against]]
    tests = {
        key: paired_test(
            [values[against][key].mean for values in by_seed],
            [values[arm][key].mean for values in by_seed],
        )
        for key in shared
    }
    return Difference(arm, against, tests, {key: first[arm][key].unit for key in shared})


def difference_table(differences: Sequence[Difference], columns: Mapping[str, str]) -> str:
    """Markdown: one line per pair of arms, one column per measure; bold where the difference is
    larger than the seeds' spread.
    """
    keys = [key for key in columns if any(key in each.tests for each in differences)]
    one_arm = len({each.arm for each in differences}) == 1
    cells = [
        [
            each.against if one_arm else f"{each.arm} minus {each.against}",
            *(difference_cell(each, key) for key in keys),
        ]
        for each in differences
    ]
    return markdown_table(["minus" if one_arm else "", *(columns[key] for key in keys)], cells)


def difference_cell(difference: Difference, key: str) -> str:
    """Mean ± sd of the differences, each seed's, and the p-value."""
    test = difference.tests.get(key)
    if test is None:
        return "–"
    scale = scale_of(difference.units[key])
    mean = f"{scale * test.mean:+.1f}"
    if test.n < 2:
        return mean
    mean += f" ± {scale * test.sd:.1f}"
    each = ", ".join(f"{scale * d:+.1f}" for d in test.each)
    return f"{f'**{mean}**' if test.beyond_spread else mean} ({each}), {test.p_text}"


def statements(differences: Sequence[Difference], columns: Mapping[str, str]) -> list[str]:
    """One sentence per pair of arms: which differences are larger than the seeds' spread."""
    if any(test.n < 2 for each in differences for test in each.tests.values()):
        return ["One seed: nothing can be said about the spread."]
    return ["\n".join(_statement(each, columns) for each in differences)] if differences else []


def _statement(difference: Difference, columns: Mapping[str, str]) -> str:
    named = [
        (f"{heading} ({scale_of(difference.units[key]) * test.mean:+.1f})", test.beyond_spread)
        for key, heading in columns.items()
        if (test := difference.tests.get(key)) is not None
    ]
    larger, within = (
        "; ".join(text for text, beyond in named if beyond is side) or "nothing"
        for side in (True, False)
    )
    return (
        f"- {difference.arm} against {difference.against}: larger than the seeds' spread in "
        f"{larger}. Within it: {within}."
    )
