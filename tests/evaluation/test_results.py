import json
import os

import numpy as np
import pytest

from evaluation.results import (
    Measure,
    Row,
    combine,
    config_hash,
    format_table,
    load_results,
    save_results,
)
from ssl_parts.errors import DataError


def row(name="base", accuracy=(0.5, 0.6), **changes):
    fields = {
        "name": name,
        "protocol": "linear",
        "version": 1,
        "data": "cub",
        "splits": {"train": 300, "val": 0, "test": 243},
        "resolution": 224,
        "fit": "crop",
        "layer": "layer4",
        "pooling": "pooled",
        "selection": "none: C=1",
        "seeds": [0, 1],
        "values": {"accuracy": Measure.of(accuracy)},
    }
    return Row(**(fields | changes))


def test_measure_has_the_sample_deviation():
    assert Measure.of([0.2, 0.4]).sd == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert Measure.of([0.2]).sd is None


def test_rows_come_back_as_written(tmp_path):
    rows = [row(), row("ours", (0.7, 0.8), commit="abc", encoder={"name": "resnet50"})]
    save_results(tmp_path / "new" / "results.json", rows, command="evaluate")
    document = load_results(tmp_path / "new" / "results.json")
    assert document["rows"] == rows
    assert document["command"] == "evaluate"


def test_nan_is_written_as_null(tmp_path):
    save_results(
        tmp_path / "results.json",
        [row(values={"iou": Measure(float("nan"), None, [float("nan")])})],
    )
    assert (
        json.loads((tmp_path / "results.json").read_text())["rows"][0]["values"]["iou"]["mean"]
        is None
    )
    assert load_results(tmp_path / "results.json")["rows"][0].values["iou"].mean is None


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    save_results(path, [row()])

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_results(path, [row("other")])
    assert load_results(path)["rows"] == [row()]


def test_files_that_are_not_results_are_refused(tmp_path):
    path = tmp_path / "results.json"
    for content, message in (
        ("{", "not a results file"),
        ("{}", "schema None"),
        ('{"schema": 99}', "schema 99"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            load_results(path)
    path.write_text('{"schema": 1, "rows": [{"name": "x"}]}')
    with pytest.raises(DataError, match="not a row"):
        load_results(path)


def test_table_by_hand():
    table = format_table(
        [row(), row("ours", (0.75,), seeds=[0])], {"accuracy": "linear", "other": "k-NN"}
    )
    assert table.splitlines()[:4] == [
        "|      |     linear | k-NN |",
        "| ---- | ---------: | ---: |",
        "| base | 55.0 ± 7.1 |    – |",
        "| ours |       75.0 |    – |",
    ]
    assert (
        "linear v1 on cub (300 train, 243 test images, 224 px crop); layer4, pooled; selection none: C=1"
        in table
    )


def test_table_of_dictionaries():
    rows = {
        "base": {
            "values": {"linear": {"mean": 0.5, "sd": None, "values": [0.5]}},
            "note": "as said",
        }
    }
    assert format_table(rows).splitlines()[2] == "| base |   50.0 |"
    assert format_table(rows).endswith("as said")
    assert "50.0" in format_table({"base": {"linear": 0.5}})


def test_combining_seeds():
    one = combine([row(accuracy=(0.5, 0.7)), row(accuracy=(0.7, 0.9))], seeds=[4, 5])
    assert one.values["accuracy"] == Measure.of([0.6, 0.8])
    assert one.seeds == [4, 5]
    with pytest.raises(DataError, match="differ in resolution: 224 and 96"):
        combine([row(), row(resolution=96)], seeds=[0, 1])


def test_config_hash_sees_values_not_order():
    assert (
        config_hash({"a": 1, "b": 2})
        == config_hash({"b": 2, "a": 1})
        != config_hash({"a": 1, "b": 3})
    )
