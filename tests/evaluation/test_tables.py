import numpy as np
import pytest
from scipy import stats

from evaluation.results import Measure, Row
from evaluation.tables import (
    COLUMNS,
    describe,
    difference_cell,
    difference_table,
    format_measure,
    format_table,
    headings,
    paired_difference,
    statements,
    values_by_arm,
)


def row(name="base", protocol="linear", values=None, **changes):
    values = {"accuracy": Measure.of([0.5, 0.6])} if values is None else values
    given = {"layer": "layer4", "pooling": "pooled", "selection": "none: C=1", "seeds": [0, 1]}
    given |= {"splits": {"train": 300, "val": 0, "test": 243}, "resolution": 224, "fit": "crop"}
    return Row(name, protocol, 1, "cub", values=values, **(given | changes))


def test_table_by_hand():
    rows = [row(), row("ours", values={"accuracy": Measure.of([0.75])}, seeds=[0])]
    columns = {"linear.accuracy": "linear", "knn.accuracy@k=10": "k-NN"}
    table = format_table(rows, columns)
    assert table.splitlines()[:4] == [
        "|      |     linear | k-NN |",
        "| ---- | ---------: | ---: |",
        "| base | 55.0 ± 7.1 |    – |",
        "| ours |       75.0 |    – |",
    ]
    assert (
        "linear v1 on cub (300 train, 243 test images, 224 px crop); layer4, pooled; "
        "selection none: C=1; seed 0, 1." in table
    )


def test_units_decide_how_a_measure_is_printed():
    """18.6 % of the box is no 1860 %."""
    assert format_measure(Measure.of([0.186])) == "18.6"
    assert format_measure(Measure.of([18.6, 19.0], unit="percent")) == "18.8 ± 0.3"
    assert format_measure(Measure.of([1234.5], unit="number")) == "1234"
    assert format_measure(Measure.of([float("nan")])) == "–" == format_measure(None)


def test_protocols_of_an_arm_stand_in_one_line():
    few = {"accuracy@5": Measure.of([0.25]), "accuracy@10%": Measure.of([0.3])}
    parts = {"miou@20": Measure.of([0.1]), "miou_with_background@20": Measure.of([0.2])}
    rows = [row(), row(protocol="few_label", values=few), row(protocol="parts", values=parts)]
    assert headings(rows) == {
        "linear.accuracy": "linear, all labels",
        "few_label.accuracy@5": "linear, 5 per class",
        "few_label.accuracy@10%": "linear, 10% of labels",
        "parts.miou@20": "part mIoU, 20 images",
    }
    line = format_table(rows, headings(rows), notes=False).splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "base",
        "55.0 ± 7.1",
        "25.0",
        "30.0",
        "10.0",
    ]
    assert set(values_by_arm(rows)["base"]) > set(headings(rows))


def test_every_column_names_a_measure_of_its_protocol():
    from evaluation.protocols import PROTOCOLS

    assert {column.protocol for column in COLUMNS} <= {*PROTOCOLS, "finetune"}
    unknown = [row(protocol="discovery", values={"corloc": Measure.of([0.5])})]
    assert headings(unknown) == {"discovery.corloc": "corloc"}


def test_twenty_seeds_are_a_span_and_a_note_is_kept():
    assert "seeds 0 to 19" in describe(row(seeds=list(range(20))))
    assert describe(row(settings={"note": "as said then"})) == "as said then"


def seeded(**arms):
    """Rows of each seed: arm → accuracies."""
    return [
        [row(arm, values={"accuracy": Measure.of([v[s]])}) for arm, v in arms.items()]
        for s in range(len(next(iter(arms.values()))))
    ]


def test_difference_is_scipys_paired_test():
    a, b = np.array([0.25, 0.5, 0.375]), np.array([0.5, 0.5625, 0.5])
    found = paired_difference(seeded(base=a, ours=b), "ours", "base")
    test = found.tests["linear.accuracy"]
    assert test.p == pytest.approx(stats.ttest_rel(b, a).pvalue)
    cell = difference_cell(found, "linear.accuracy")
    assert cell == f"+14.6 ± 9.5 (+25.0, +6.2, +12.5), p={test.p:.2g}"
    columns = {"linear.accuracy": "linear"}
    assert difference_table([found], columns).splitlines()[2] == f"| base  | {cell} |"
    assert statements([found], columns) == [
        "- ours against base: larger than the seeds' spread in nothing. Within it: linear (+14.6)."
    ]
    assert found.as_json()["linear.accuracy"]["larger_than_spread"] is False


def test_points_of_a_percent_are_not_multiplied():
    tables = [
        [row(n, values={"e": Measure.of([v], unit="percent")}) for n, v in (("a", 9.0), ("b", 7.0))]
    ]
    found = paired_difference(tables, "b", "a")
    assert difference_cell(found, "linear.e") == "-2.0"
    assert statements([found], {}) == ["One seed: nothing can be said about the spread."]


def test_pairs_of_other_arms_are_named_in_full():
    tables = seeded(a=[0.1, 0.2], b=[0.2, 0.4], c=[0.5, 0.5])
    found = [paired_difference(tables, "b", "a"), paired_difference(tables, "c", "a")]
    lines = difference_table(found, {"linear.accuracy": "linear"}).splitlines()
    assert lines[2].startswith("| b minus a ") and lines[3].startswith("| c minus a ")
