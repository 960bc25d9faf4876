"""launch/export.py: key=value in, folders and results.json out, one line for a user's mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from ssl_parts.encoders import build_encoder, encoder_hash, open_encoder
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export import parse, run_export

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "export.py"
SETTINGS = "encoder: {name: resnet18, small: true, width: 0.25, last_stage: layer2}\ndata: {name: drawn, size: 72}\n"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "mine"
    checkpoint = folder / "round_000" / "checkpoints" / "step_000010"
    checkpoint.mkdir(parents=True)
    (folder / "config.yaml").write_text(SETTINGS)
    for seed, which in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        encoder = build_encoder("resnet18", small=True, width=0.25, last_stage="layer2")
        save_file(
            {f"encoder.{n}": v for n, v in encoder.state_dict().items()},
            checkpoint / f"{which}.safetensors",
        )
    (checkpoint.parent / "last").write_text("step_000010")
    return folder


def test_the_script_writes_formats_side_by_side(run, tmp_path):
    words = [f"source={run}", "to=timm,state_dict", f"out={tmp_path / 'exports'}", "image_size=64"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "exports" / "results.json").read_text())
    assert set(results["exports"]) == {"timm", "state_dict"}
    assert done.stdout.strip().endswith(f"Results: {tmp_path / 'exports' / 'results.json'}")
    hashes = {encoder_hash(open_encoder(folder)) for folder in results["exports"].values()}
    assert len(hashes) == 1


def test_the_script_says_a_mistake_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "sorce=x"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "did you mean 'source'?" in done.stderr and done.stderr.count("\n") == 1


def test_one_format_goes_into_out_itself_and_runs_have_a_place_of_their_own(run, tmp_path):
    assert (
        run_export(parse([f"source={run}", f"out={tmp_path / 'one'}", "image_size=64"])).parent
        == tmp_path / "one"
    )
    assert (tmp_path / "one" / "config.json").is_file()
    # Again, over the first: results.json beside it is part of the export.
    run_export(
        parse([f"source={run}", f"out={tmp_path / 'one'}", "image_size=64", "which=teacher"])
    )
    run_export(parse([f"source={run}", "to=timm,onnx", "licence=mit"]))
    size = json.loads((run / "exports" / "timm" / "config.json").read_text())["pretrained_cfg"][
        "input_size"
    ]
    assert size == [3, 72, 72]  # the run's
    assert "72, 72" in (run / "exports" / "onnx" / "README.md").read_text()
    assert "license: mit" in (run / "exports" / "timm" / "README.md").read_text()
    hashes = [
        encoder_hash(open_encoder(folder))
        for folder in (tmp_path / "one", run / "exports" / "timm")
    ]
    assert hashes == [encoder_hash(open_encoder(run, which)) for which in ("teacher", "student")]


def test_bare_weights_are_converted_by_name(tmp_path):
    weights = torchvision.models.resnet18().state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}},
        tmp_path / "any.pth",
    )
    run_export(
        parse(
            [
                f"source={tmp_path / 'any.pth'}",
                "name=resnet18",
                f"out={tmp_path / 'out'}",
                "image_size=32",
            ]
        )
    )
    assert torch.equal(open_encoder(tmp_path / "out").model.conv1.weight, weights["conv1.weight"])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["to=timm"], ConfigError, "source=... is missing"),
        (["source=.", "to=tim"], ConfigError, "to=tim: choose from timm"),
        (["source=.", "to=,"], ConfigError, "choose from timm"),
        (["source=nowhere.pth", "name=resnet18"], ConfigError, "out=DIR is missing"),
        (
            ["source=.", "push=me/bird", "to=onnx"],
            ConfigError,
            "push=me/bird uploads the hf or the timm export",
        ),
        (["source=.", "image_size=large"], ConfigError, "image_size|could not be converted"),
        (["source=.", "whch=best"], ConfigError, "did you mean 'which'?"),
        (
            ["source=.", "which=latest"],
            WeightsError,
            "'latest' is not one of best, student, teacher",
        ),
        (["source=.", "out=x"], WeightsError, "holds no weights"),
    ],
)
def test_mistakes(words, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message.replace(".", r"\.").replace("?", r"\?")):
        run_export(parse(words))
