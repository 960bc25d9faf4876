"""launch/evaluate.py from the command line to results.json, and that every file of
configs/protocol composes.
"""

import runpy
import sys
from pathlib import Path

import pytest

from evaluation.protocols import PROTOCOLS
from evaluation.results import read_results
from ssl_parts.errors import ConfigError
from ssl_parts.recipes.load import load_evaluation
from ssl_parts.recipes.schemas import EvaluateConfig

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in (REPO / "configs/protocol").glob("*.yaml"))
TINY = [
    "data.images=40",
    "data.test_images=40",
    "data.species=4",
    "data.size=48",
    "encoder.width=0.125",
]


def evaluate(monkeypatch, tmp_path, *overrides):
    run = [f"run.dir={tmp_path}/out", f"run.cache={tmp_path}/features", "run.device=cpu"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *TINY, *run, *overrides])
    runpy.run_path(str(REPO / "launch/evaluate.py"), run_name="__main__")


def test_every_protocol_has_a_file():
    assert {
        type(load_evaluation("default", [f"protocol={name}"]).protocol) for name in FILES
    } == set(PROTOCOLS.values())


@pytest.mark.parametrize("name", FILES)
def test_protocol_files_compose_and_check(name):
    config = load_evaluation("default", [f"protocol={name}"])
    assert isinstance(config, EvaluateConfig)
    head = (REPO / "configs/protocol" / f"{name}.yaml").read_text()
    assert f"launch/evaluate.py protocol={name} " in head


def test_command_prints_a_table_and_writes_results(monkeypatch, tmp_path, capsys):
    evaluate(
        monkeypatch,
        tmp_path,
        "protocol=few_label",
        "protocol.shots=[2.0]",
        "protocol.draws=2",
        "run.name=mine",
    )
    printed = capsys.readouterr().out
    path = tmp_path / "out/mine/synthetic_birds_few_label/results.json"
    assert str(path) in printed
    assert "| mine |" in printed
    (row,) = read_results(path).rows
    assert (row.protocol, row.splits["test"], row.resolution) == ("few_label", 40, 48)
    assert "accuracy@2" in row.values
    assert len(list((tmp_path / "features").iterdir())) == 2
    evaluate(monkeypatch, tmp_path, "protocol=knn")
    # the same seed gives the same random encoder
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_dense_protocol_through_the_command(monkeypatch, tmp_path):
    evaluate(
        monkeypatch,
        tmp_path,
        "protocol=parts",
        "protocol.shots=[4]",
        "protocol.draws=2",
        "protocol.grid=8",
    )
    (row,) = read_results(tmp_path / "out/encoder/synthetic_birds_parts/results.json").rows
    assert len(row.values["miou@4"].values) == 2


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["protocol.cc=1"], "protocol.cc"),
        (["protocol=linaer"], "did you mean 'linear'"),
        (["protocol=knn", "protocol.temperature=0"], "protocol.temperature=0"),
        (["run.device=warp"], "run.device='warp'"),
        (["run.name=a/b"], "run.name='a/b'"),
    ],
)
def test_mistakes_are_one_line(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_evaluation("default", overrides)
    assert "\n" not in str(caught.value)
