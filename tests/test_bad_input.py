"""What users get wrong: one clear error with the value, the place and the way out, before
training; nothing lost.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from tiny_run import overrides

from ssl_parts.encoders import build_encoder
from ssl_parts.errors import ConfigError, DataError, SslPartsError, WeightsError
from ssl_parts.jobs import pretrain
from ssl_parts.pretraining.phase import Trainer
from ssl_parts.recipes.load import load_recipe

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    def trained(*_):
        raise AssertionError("training began before the mistake was found")

    monkeypatch.setattr(Trainer, "__init__", trained)
    AcceleratorState._reset_state(True)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(14):
        pixels = np.random.default_rng(i).integers(0, 255, (70, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return folder


def start(tmp_path, *more):
    config = load_recipe("quickstart", overrides(tmp_path / "runs", *more))
    return pretrain.pretrain(config)


def of_folder(folder):
    return [
        "data=folder",
        f"data.root={folder}",
        "data.images=null",
        "data.test_images=null",
        "data.species=null",
    ]


@pytest.mark.parametrize(
    ("mistake", "kind", "words"),
    [
        (["trian.lr=0.1"], ConfigError, ["trian.lr", "did you mean 'train.lr'"]),
        (["data=cubs"], ConfigError, ["data=cubs", "did you mean 'cub'"]),
        (["train.lr=fast"], ConfigError, ["fast"]),
        (["objective.temperature=0"], ConfigError, ["objective.temperature=0", "above 0"]),
        (["encoder.name=resnet81"], ConfigError, ["resnet81", "did you mean"]),
        (
            ["train.rounds=0", "run.control=true"],
            ConfigError,
            ["run.control=true", "train.rounds=0"],
        ),
        (
            ["train.rounds=0", "train.base_epochs=0"],
            ConfigError,
            ["train.rounds=0", "train.base_epochs"],
        ),
        (["train.batch=36"], ConfigError, ["train.batch=36", "24 images", "at most 24"]),
        (["parts.k=65"], ConfigError, ["parts.k=65", "64 points", "parts.size"]),
        (["parts.stages=[layer9]"], ConfigError, ["layer9", "layer3"]),
        (["data=folder", "data.root=/no/such/folder"], DataError, ["/no/such/folder"]),
        (["data=cub", "data.root=/no/such/folder"], DataError, ["/no/such/folder"]),
        (["encoder.weights=/no/such/file.pth"], WeightsError, ["/no/such/file.pth"]),
    ],
)
def test_a_mistake_is_named_with_the_way_out(tmp_path, mistake, kind, words):
    if mistake[0] in ("data=folder", "data=cub"):
        mistake = [*mistake, "data.images=null", "data.test_images=null", "data.species=null"]
    with pytest.raises(kind) as caught:
        start(tmp_path, *mistake)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_truncated_photograph_is_named_before_training(tmp_path, photographs):
    whole = (photographs / "3.jpg").read_bytes()
    (photographs / "3.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"3\.jpg[\s\S]*data\.on_bad_image=skip"):
        start(tmp_path, *of_folder(photographs))
    with (
        pytest.warns(UserWarning, match=r"1 of 14 images"),
        pytest.raises(AssertionError, match="training began"),
    ):
        start(tmp_path, *of_folder(photographs), "data.on_bad_image=skip")


def test_an_empty_folder_is_said(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing"):
        start(tmp_path, *of_folder(tmp_path / "nothing"))


def test_class_folders_without_a_test_split_are_said_before_training(tmp_path, photographs):
    for i, photograph in enumerate(sorted(photographs.glob("*.jpg"))):
        (photographs / f"class_{i % 2}").mkdir(exist_ok=True)
        photograph.rename(photographs / f"class_{i % 2}" / photograph.name)
    with pytest.raises(SslPartsError, match=r"data\.test_share"):
        start(tmp_path, *of_folder(photographs))
    with pytest.raises(AssertionError, match="training began"):
        start(tmp_path, *of_folder(photographs), "run.evaluate=false")


def test_greyscale_and_cmyk_just_work(tmp_path, photographs):
    for name, mode in (("grey", "L"), ("cmyk", "CMYK")):
        Image.open(photographs / "0.jpg").convert(mode).save(photographs / f"{name}.jpg")
    with pytest.raises(AssertionError, match="training began"):
        start(tmp_path, *of_folder(photographs))


def test_weights_of_another_architecture(tmp_path):
    torch.save(build_encoder("mobilenetv2_050").model.state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        start(tmp_path, f"encoder.weights={tmp_path / 'other.pth'}")


def test_the_command_prints_one_line_and_no_traceback(tmp_path):
    command = [
        sys.executable,
        str(REPO / "launch/pretrain.py"),
        f"run.dir={tmp_path}",
        "train.epoch=3",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("ConfigError: unknown key 'train.epoch'")
    assert "did you mean 'train.epochs'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "recipe", ["quickstart", "folder", "particle_r50_cub", "particle_vits8_cub"]
)
def test_every_recipe_composes_and_checks(recipe):
    root = [] if recipe == "quickstart" else ["data.root=x"]
    config = load_recipe(recipe, [*root, "encoder.weights=null"])
    assert config.run.name == recipe
