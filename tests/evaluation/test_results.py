import json
import os
from dataclasses import asdict, fields

import numpy as np
import pytest
from json_schema import SCHEMA, problems

from evaluation.results import (
    Measure,
    Row,
    combine,
    combine_seeds,
    config_hash,
    keep_earlier,
    read_results,
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
    with pytest.raises(DataError, match="at least one value"):
        Measure.of([])


def test_what_is_written_comes_back_and_fits_the_schema(tmp_path):
    path = tmp_path / "new" / "results.json"
    error = Measure.of([18.6, 19.0], unit="percent")
    rows = [row(), row("ours", (0.7, 0.8), commit="abc", values={"keypoint_error": error})]
    written = save_results(path, "evaluate", rows, command_line="evaluate.py", seconds=3)
    assert read_results(path) == written
    assert written.rows == rows and written.extra["seconds"] == 3
    assert problems(json.loads(path.read_text())) == []


def test_the_schema_knows_every_field():
    definitions = SCHEMA["$defs"]
    for name, kind in (("row", Row), ("measure", Measure)):
        known = {field.name for field in fields(kind)}
        assert set(definitions[name]["properties"]) == known == set(definitions[name]["required"])
    document = {"version": 2, "command": "evaluate", "rows": [asdict(row())], "extra": {}}
    assert problems(document) == []
    for broken in (
        document | {"command": "measure"},
        document | {"schema": 1},
        document | {"rows": [{**document["rows"][0], "resolution": "224"}]},
        {key: value for key, value in document.items() if key != "extra"},
    ):
        assert len(problems(broken)) == 1


def test_nan_is_written_as_null_and_read_as_nan(tmp_path):
    measure = Measure(float("nan"), None, [float("nan")])
    save_results(tmp_path / "results.json", "evaluate", [row(values={"iou": measure})])
    raw = json.loads((tmp_path / "results.json").read_text())
    assert raw["rows"][0]["values"]["iou"]["mean"] is None and problems(raw) == []
    found = read_results(tmp_path / "results.json").rows[0].values["iou"]
    assert np.isnan(found.mean) and np.isnan(found.values[0])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    save_results(path, "evaluate", [row()])

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_results(path, "evaluate", [row("other")])
    assert read_results(path).rows == [row()]


def test_files_that_are_not_results_are_refused(tmp_path):
    path = tmp_path / "results.json"
    document = {"version": 2, "command": "evaluate", "rows": [asdict(row())], "extra": {}}
    measure = {"mean": 1.0, "sd": None, "values": [1.0], "unit": "miles"}
    for content, message in (
        ("{", "not a results file"),
        ("{}", "version None"),
        ("[]", "version 'list'"),
        (json.dumps(document | {"version": 99}), "version 99; this release reads 2 and earlier"),
        (json.dumps(document | {"command": "walk"}), "names no command"),
        (json.dumps(document | {"rows": [{"name": "x"}]}), "not a row"),
        (json.dumps(document | {"rows": [asdict(row()) | {"values": {"a": measure}}]}), "miles"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_results(path)


OLD_MEASURE = {"mean": 0.5, "sd": None, "values": [0.5], "interval": None}


def test_arms_of_a_run_of_the_first_version(tmp_path):
    values = {"linear": OLD_MEASURE, "linear_few": OLD_MEASURE, "part_miou": OLD_MEASURE}
    settings = {"shots": 5, "part_shots": 32, "c": 1.0}
    arm = {"values": values, "note": "as said", "settings": settings, "seconds": 3}
    document = {"schema": 1, "run": "old", "seconds": 9, "rows": {"base": arm, "ours": arm}}
    (tmp_path / "results.json").write_text(json.dumps(document))
    found = read_results(tmp_path / "results.json")
    assert (found.command, found.extra) == ("pretrain", {"run": "old", "seconds": 9})
    named = [(r.name, r.protocol, list(r.values)) for r in found.rows[:3]]
    assert named == [
        ("base", "linear", ["accuracy"]),
        ("base", "few_label", ["accuracy@5"]),
        ("base", "parts", ["miou@32"]),
    ]
    assert len(found.rows) == 6 and found.rows[0].values["accuracy"] == Measure.of([0.5])
    (tmp_path / "base.json").write_text(json.dumps({"arm": "base"} | arm))
    assert read_results(tmp_path / "base.json").rows == found.rows[:3]
    seeds = {"schema": 1, "seeds": [0, 1], "rows": {"base": {"values": values, "note": ""}}}
    (tmp_path / "results.json").write_text(json.dumps(seeds))
    compared = read_results(tmp_path / "results.json")
    assert compared.command == "compare" and compared.rows[1].values.keys() == {"accuracy@few"}


def test_rows_of_the_first_version_get_their_unit(tmp_path):
    old = asdict(row())
    old["values"] = {"keypoint_error": {**OLD_MEASURE, "mean": 18.6}, "corloc": OLD_MEASURE}
    document = {"schema": 1, "rows": [old], "command": "launch/evaluate.py protocol=discovery"}
    (tmp_path / "results.json").write_text(json.dumps(document))
    found = read_results(tmp_path / "results.json")
    assert found.command == "evaluate" and "protocol=discovery" in found.extra["command_line"]
    assert found.rows[0].values["keypoint_error"].unit == "percent"
    assert found.rows[0].values["corloc"].unit == "fraction"


def test_a_discovery_of_the_first_version(tmp_path):
    config = {"run.name": "birds", "data.name": "cub"}
    document = {"statistics": {"used": 8}, "scores": {"corloc": 0.25, "keypoint_error": 18.6}}
    (tmp_path / "results.json").write_text(json.dumps(document | {"ids": 9, "config": config}))
    found = read_results(tmp_path / "results.json")
    (one,) = found.rows
    assert (found.command, one.name, one.protocol, one.data) == (
        "discover",
        "birds",
        "discovery",
        "cub",
    )
    assert one.values["keypoint_error"] == Measure.of([18.6], unit="percent")
    assert found.extra["statistics"] == {"used": 8} and found.extra["ids"] == 9


def test_combining_seeds():
    one = combine([row(accuracy=(0.5, 0.7)), row(accuracy=(0.7, 0.9))], seeds=[4, 5])
    assert one.values["accuracy"] == Measure.of([0.6, 0.8])
    assert one.seeds == [4, 5]
    with pytest.raises(DataError, match="differ in resolution: 224 and 96"):
        combine([row(), row(resolution=96)], seeds=[0, 1])


def test_tables_of_seeds_are_combined_row_by_row():
    tables = {3: [row(accuracy=[0.5]), row("ours", [0.6])], 4: [row(accuracy=[0.7])]}
    with pytest.raises(DataError, match="seed 4 has no row of ours under linear"):
        combine_seeds(tables)
    tables[4].append(row("ours", [1.0]))
    assert [(r.name, r.seeds, r.values["accuracy"].mean) for r in combine_seeds(tables)] == [
        ("base", [3, 4], pytest.approx(0.6)),
        ("ours", [3, 4], pytest.approx(0.8)),
    ]


def test_config_hash_sees_values_not_order():
    assert (
        config_hash({"a": 1, "b": 2})
        == config_hash({"b": 2, "a": 1})
        != config_hash({"a": 1, "b": 3})
    )


def test_another_measurement_is_kept_beside(tmp_path):
    path = tmp_path / "results.json"
    assert keep_earlier(path, [row(config_hash="a")]) is None
    save_results(path, "evaluate", [row(config_hash="a")])
    assert keep_earlier(path, [row(config_hash="a")]) is None and path.exists()
    kept = keep_earlier(path, [row(config_hash="b")])
    assert not path.exists() and read_results(kept).rows == [row(config_hash="a")]
