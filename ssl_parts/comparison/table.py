"""The text of a comparison: arms, what the result gains over each, is it more than chance,
published numbers.
"""

from evaluation.metrics import PairedTest
from evaluation.results import format_table, markdown_table
from evaluation.suite import COLUMNS
from ssl_parts.pretraining.arms import OURS
from ssl_parts.report.published import PROTOCOL, published_for, published_gains


def as_markdown(
    rows: dict, tests: dict[str, dict[str, PairedTest]], seeds: list[int], ours: str, data: str
) -> str:
    """The arms, what `ours` gains over each and whether that is more than the seeds' spread,
    published numbers.
    """
    listed = ", ".join(map(str, seeds))
    told = (
        "Paired t-test of runs of one seed; larger than the seeds' spread where p < 0.05."
        if len(seeds) > 1
        else ""
    )
    paragraphs = [
        format_table(rows, COLUMNS),
        f"Mean ± sd over seeds {listed}.",
        f"**{ours}** minus each arm, in points: mean ± sd of the differences (each seed's). {told}".strip(),
        difference_table(tests),
        *statements(tests, ours),
        *published_paragraphs(data),
    ]
    return "\n\n".join(paragraphs)


def difference_table(tests: dict[str, dict[str, PairedTest]]) -> str:
    """Markdown: an arm a line, a value a column; bold where the difference is larger than the
    seeds' spread.
    """
    keys = [key for key in COLUMNS if any(key in line for line in tests.values())]
    cells = [[arm, *(difference_cell(line[key]) for key in keys)] for arm, line in tests.items()]
    return markdown_table(["minus", *(COLUMNS[key] for key in keys)], cells)


def difference_cell(test: PairedTest) -> str:
    mean = f"{100 * test.mean:+.1f}"
    if test.n < 2:
        return mean
    mean += f" ± {100 * test.sd:.1f}"
    each = ", ".join(f"{100 * d:+.1f}" for d in test.each)
    return f"{f'**{mean}**' if test.beyond_spread else mean} ({each}), {test.p_text}"


def statements(tests: dict[str, dict[str, PairedTest]], ours: str = OURS) -> list[str]:
    """One sentence an arm: in which values the difference is larger than the seeds' spread, and in
    which within it.
    """
    if any(test.n < 2 for line in tests.values() for test in line.values()):
        return ["One seed: nothing can be said about the spread."]
    lines = []
    for arm, line in tests.items():
        named = [
            (f"{name} ({100 * line[key].mean:+.1f})", line[key].beyond_spread)
            for key, name in COLUMNS.items()
            if key in line
        ]
        larger, within = (
            "; ".join(text for text, beyond in named if beyond is side) or "nothing"
            for side in (True, False)
        )
        lines.append(
            f"- {ours} against {arm}: larger than the seeds' spread in {larger}. Within it: {within}."
        )
    return ["\n".join(lines)]


def published_paragraphs(data: str) -> list[str]:
    """What others report on this data set, with the source; for most sets only what the paper
    gained elsewhere.
    """
    gained = ", ".join(f"{gain:+.1f} on {name}" for name, gain in published_gains().items())
    paper = f"The paper's gain over its base in linear accuracy, in points: {gained}."
    rows = published_for(data)
    if not rows:
        return [f"Nothing is published for {data}. {paper}"]
    cells = [[f"{row.model} ({row.source})", row.measure, f"{row.percent:.1f}"] for row in rows]
    told = [PROTOCOL[measure] for measure in dict.fromkeys(row.measure for row in rows)]
    table = markdown_table([f"published for {data}", "measure", "percent"], cells)
    return [table, " ".join(["Other images, sizes or protocols than above.", *told]), paper]
