"""The list of runs says what their files say."""

import json
import os

import pytest

from evaluation.results import Measure, Row, save_results
from ssl_parts.comparison.runs import list_runs, runs_as_text
from ssl_parts.errors import DataError


def make(folder, when, metrics=None, results=None):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("run: {}\n")
    if metrics is not None:
        (folder / "metrics.jsonl").write_text(metrics)
    if results is not None:
        save_results(folder / "results.json", "pretrain", results)
    for file in folder.iterdir():
        os.utime(file, (when, when))


def row(name, accuracy):
    values = {"accuracy": Measure.of([accuracy]), "top5": Measure.of([1.0])}
    return Row(name, "linear", 2, "d", {"test": 3}, 48, "crop", "l", "p", "none", [], values)


def test_state_time_and_result_of_each_run(tmp_path):
    line = json.dumps({"phase": "round 0", "step": 7})
    make(tmp_path / "mine", 1e9, line, [row("base", 0.5), row("base + distill", 0.75)])
    make(tmp_path / "seeds" / "seed_1", 2e9, f'{line}\n{{"phase": "rou')
    make(tmp_path / "new", 1.5e9)
    (tmp_path / "broken").mkdir()
    make(tmp_path / "broken" / "x", 1.2e9)
    (tmp_path / "broken" / "x" / "results.json").write_text("{")
    found = {line.name: line for line in list_runs(tmp_path)}
    assert list(found) == ["seeds/seed_1", "broken/x", "new", "mine"]
    assert found["mine"].state == "finished" and found["mine"].result == "linear, all labels 75.0"
    assert found["seeds/seed_1"].state == "round 0, step 7" and found["new"].state == "started"
    assert found["broken/x"].state.startswith("cannot be read")
    text = runs_as_text(list_runs(tmp_path))
    assert text.splitlines()[0].split() == ["run", "state", "last", "sign", "of", "life", "result"]
    assert "75.0" in text and len(text.splitlines()) == 5
    assert [line.name for line in list_runs(tmp_path / "mine")] == ["mine"]


def test_no_runs_and_no_folder(tmp_path):
    assert runs_as_text(list_runs(tmp_path)) == "No run here."
    with pytest.raises(DataError, match="is not a folder"):
        list_runs(tmp_path / "absent")
