"""What a run needs after its training is looked at before it; a finished training is never lost."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import logged

import ssl_parts
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import DataError, EvaluationError
from ssl_parts.export import export_encoder
from ssl_parts.jobs import pretrain as pretrain_job
from ssl_parts.jobs.preflight import describe_measurements, plan_run
from ssl_parts.recipes.load import load_recipe

TRAIN = {"rounds": 1, "epochs": 1, "batch": 8, "freeze_stages": 0}
SMALL = {
    "run": {"threads": 1, "pictures": False, "precision": "fp32"},
    "data_keys": {"size": 48},
    "train": TRAIN,
}


def write(folder, counts, seed=0):
    generator = np.random.default_rng(seed)
    for place, count in counts.items():
        for i in range(count):
            path = folder / place / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((50, 50), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    return export_encoder(encoder, tmp_path_factory.mktemp("w") / "e", to="timm", image_size=48)


def test_a_failed_measurement_loses_nothing(tmp_path, weights, monkeypatch):
    photos = write(tmp_path / "d", {"train/a": 6, "train/b": 4, "test/a": 2, "test/z": 2})

    def fails(*_, **__):
        raise DataError("features are not finite")

    with monkeypatch.context() as patched:
        patched.setattr(pretrain_job, "evaluate_plan", fails)
        with pytest.raises(
            EvaluationError, match=r"finished and exported.*features are not finite"
        ):
            ssl_parts.pretrain(tmp_path / "run", photos, weights=weights, **SMALL)
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()
    before = logged(tmp_path / "run")
    changed = {"evaluation": {"few_label": {"shots": 2}}}
    result = ssl_parts.pretrain(tmp_path / "run", photos, weights=weights, **SMALL, **changed)
    assert logged(tmp_path / "run") == before
    assert [row.splits["test"] for row in result.rows] == [2, 2, 2, 2]
    assert "accuracy@2" in result.rows[1].values
    assert "shots:\n    - 2.0" in (tmp_path / "run" / "config.yaml").read_text()


def test_damaged_test_images_stop_the_run_before_it_begins(tmp_path, weights):
    photos = write(tmp_path / "d", {"train/a": 6, "train/b": 4, "test/a": 2, "test/b": 2})
    (photos / "test/a/1.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"(?s)1 of 4 images.*test/a/1\.png"):
        ssl_parts.pretrain(tmp_path / "run", photos, weights=weights, **SMALL)
    assert not (tmp_path / "run").exists()


def test_the_doctor_says_what_the_run_says(tmp_path, weights):
    photos = write(tmp_path / "d", {"train/a": 6, "train/b": 2, "test/a": 2, "test/z": 1})
    words = [f"data.root={photos}", f"encoder.weights={weights}", "data.size=48"]
    config = load_recipe("folder", words)
    said = describe_measurements(config)
    assert "measured  linear, few_label, at the end of a run" in said
    assert "no training image: 'z'" in said and "of 'b'" in said
    config = load_recipe("folder", [f"data.root={write(tmp_path / 'u', {'x': 3})}", *words[1:]])
    assert "neither labels nor part masks" in describe_measurements(config)
    (photos / "test/a/0.png").write_bytes(b"")
    assert "would stop before training" in describe_measurements(load_recipe("folder", words))


def test_run_evaluate_false_asks_for_no_test_images(tmp_path):
    photos = write(tmp_path / "d", {"a": 3, "b": 3})
    config = load_recipe("folder", [f"data.root={photos}"])
    bank = ssl_parts.data.build_bank(config.data)
    plan = plan_run(bank, config.data, config.evaluation, evaluated=False)
    assert not plan.measures and "run.evaluate=false" in plan.notes[0]
