"""launch/evaluate.py from the command line to results.json, and that every file of
configs/protocol composes.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    """One protocol, one name, one file."""
    composed = {name: load_evaluation("default", [f"protocol={name}"]).protocol for name in FILES}
    assert {name: type(protocol) for name, protocol in composed.items()} == PROTOCOLS


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


def photographs(folder):
    """Four classes of six small images."""
    rng = np.random.default_rng(0)
    for number in range(24):
        path = folder / f"class_{number % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return folder


def test_a_set_is_called_by_its_own_name_and_nothing_is_overwritten(monkeypatch, tmp_path, capsys):
    """`data=flowers17` is read by the class of `folder`; two folders are two data sets."""
    root = photographs(tmp_path / "leaves")
    knn = ["protocol=knn", "protocol.k=[1]", "data.size=32", f"data.root={root}"]
    run = ["encoder.width=0.125", f"run.dir={tmp_path}/out", "run.cache=null", "run.device=cpu"]

    def measure(*words):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *knn, *run, *words])
        runpy.run_path(str(REPO / "launch/evaluate.py"), run_name="__main__")
        return capsys.readouterr().out

    assert "knn v1 on flowers17" in measure("data=flowers17")
    measure("data=folder", "data.test_share=0.5")
    folders = sorted(path.name for path in (tmp_path / "out/encoder").iterdir())
    assert folders == ["flowers17_knn", "leaves_knn"]
    path = tmp_path / "out/encoder/flowers17_knn/results.json"
    first = read_results(path)
    assert "kept" not in measure("data=flowers17")  # the same again
    printed = measure("data=flowers17", "protocol.temperature=0.2")
    (kept,) = path.parent.glob("results_*.json")
    assert str(kept) in printed and read_results(kept).rows[0].values == first.rows[0].values
    assert read_results(path).rows[0].settings["temperature"] == 0.2


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
