"""The text of a comparison: arms, what the result gains over each, is it more than chance,
published numbers.
"""

from collections.abc import Sequence

from evaluation.results import Row
from evaluation.tables import (
    Difference,
    difference_table,
    format_table,
    headings,
    markdown_table,
    statements,
)
from ssl_parts.report.published import PROTOCOL, Published, published_gains


def as_markdown(
    rows: list[Row],
    gains: list[Difference],
    seeds: list[int],
    ours: str,
    published: Sequence[str] = (),
) -> str:
    """The arms, what `ours` gains over each and whether that is more than the seeds' spread,
    published numbers.
    """
    listed, columns = ", ".join(map(str, seeds)), headings(rows)
    test = (
        " Paired t-test of runs of one seed; larger than the seeds' spread where p < 0.05."
        if len(seeds) > 1
        else ""
    )
    paragraphs = [
        format_table(rows, columns),
        f"Mean ± sd over seeds {listed}.",
        f"**{ours}** minus each arm, in points: mean ± sd of the differences (each seed's).{test}",
        difference_table(gains, columns),
        *statements(gains, columns),
        *published,
    ]
    return "\n\n".join(paragraphs)


def published_paragraphs(rows: Sequence[Published], data: str) -> list[str]:
    """What others report on this data set, with the source; for most sets only what the paper
    gained elsewhere.
    """
    gained = ", ".join(f"{gain:+.1f} on {name}" for name, gain in published_gains().items())
    paper = f"The paper's gain over its base in linear accuracy, in points: {gained}."
    if not rows:
        return [f"Nothing is published for {data}. {paper}"]
    cells = [[f"{row.model} ({row.source})", row.measure, f"{row.percent:.1f}"] for row in rows]
    protocols = [PROTOCOL[measure] for measure in dict.fromkeys(row.measure for row in rows)]
    table = markdown_table([f"published for {data}", "measure", "percent"], cells)
    return [table, " ".join(["Other images, sizes or protocols than above.", *protocols]), paper]
