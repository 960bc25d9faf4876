"""The commands as Python functions: same words, same folders, same numbers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_parts
from ssl_parts.api import to_words
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import ConfigError
from ssl_parts.export import export_encoder
from tests.tiny_run import logged

RUN = {"threads": 1, "pictures": False, "precision": "fp32"}
SMALL = {
    "run": RUN,
    "data_keys": {"size": 48},
    "parts": "dataset",
    "train": {"rounds": 1, "epochs": 1, "batch": 8, "freeze_stages": 0},
    "evaluation": {"protocols": ["linear"]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sixteen photographs of two classes with train/ and test/, and an encoder's weights."""
    folder = tmp_path_factory.mktemp("api")
    generator = np.random.default_rng(0)
    for i in range(16):
        path = folder / "photos" / ("test" if i >= 12 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 50), Image.Resampling.BICUBIC).save(path)
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    export_encoder(encoder, folder / "weights", to="timm", image_size=48)
    return folder


@pytest.fixture(scope="module")
def result(place):
    return ssl_parts.pretrain(
        place / "runs" / "mine", place / "photos", weights=place / "weights", **SMALL
    )


def test_values_become_words():
    words = to_words(
        {
            "train": {"epochs": 3, "clip": None, "freeze_norm": True},
            "parts": "dataset",
            "evaluation": {"few_label": {"shots": [1.0, 5.0]}},
        }
    )
    assert words == [
        "parts=dataset",
        "train.epochs=3",
        "train.clip=null",
        "train.freeze_norm=true",
        "evaluation.few_label.shots=[1.0, 5.0]",
    ]
    with pytest.raises(ConfigError, match="train=5: give a section's keys as a dictionary"):
        to_words({"train": 5})


def test_a_run_is_the_command_s(result, place):
    assert result.folder == place / "runs" / "mine" and result.report.is_file()
    table = json.loads((result.folder / "results.json").read_text())
    assert [row.name for row in result.rows] == [row["name"] for row in table["rows"]]
    assert "base + distill" in result.table and result.table in result._repr_markdown_()
    images = torch.rand(1, 3, 48, 48)
    trained = ssl_parts.open_encoder(result.export).eval()
    with torch.inference_mode():
        assert torch.equal(result.encoder(images).pooled, trained(images).pooled)


def test_a_second_call_goes_on_and_another_configuration_is_refused(result, place):
    before = logged(result.folder)
    options = {"weights": place / "weights", **SMALL}
    again = ssl_parts.pretrain(result.folder, place / "photos", **options)
    assert logged(again.folder) == before
    other = options | {"train": SMALL["train"] | {"epochs": 2}}
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        ssl_parts.pretrain(result.folder, place / "photos", **other)
    with pytest.raises(ConfigError, match=r"did you mean 'train\.epochs'"):
        ssl_parts.pretrain(place / "runs" / "x", place / "photos", train={"epoch": 2})
    assert not (place / "runs" / "x").exists()


def test_measurements_may_change_and_crops_stand_beside(result, place):
    before, first = logged(result.folder), [row.values for row in result.rows]
    options = {"weights": place / "weights", **SMALL}
    options["evaluation"] = SMALL["evaluation"] | {"crops": True}
    again = ssl_parts.pretrain(result.folder, place / "photos", **options)
    assert logged(again.folder) == before and [row.values for row in again.rows[:2]] == first
    assert [row.name for row in again.rows[2:]] == [
        "base, averaged crops",
        "base + distill, averaged crops",
    ]
    by_hand = ssl_parts.evaluate(
        result.folder,
        place / "photos",
        protocol="linear",
        out=place / "evaluation" / "cropped",
        data_keys={"size": 48},
        run={"cache": None, "threads": 1},
    )
    assert by_hand[0].values["accuracy"].mean == again.rows[1].values["accuracy"].mean
    assert again.rows[3].pooling == "crops, raw" and "averaged crops" in again.table


def test_embeddings_are_those_of_the_encoder(result, place):
    found = ssl_parts.embed(result.folder, place / "photos", run={"threads": 1})
    assert found.vectors.shape == (12, result.encoder.feature_dim)
    assert list(found.classes) == ["a", "b"] and sorted(found.labels) == [0] * 6 + [1] * 6
    image = Image.open(place / "photos" / found.paths[0])
    square = image.convert("RGB").resize((48, 48), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = result.encoder(pixels).pooled[0].numpy()
    np.testing.assert_allclose(found.vectors[0], expected, atol=1e-3)
    crops = ssl_parts.embed(result.folder, place / "photos", pooling="crops:image+flip")
    assert crops.vectors.shape == found.vectors.shape and not np.allclose(
        crops.vectors, found.vectors
    )


def test_discovery_and_protocols(result, place):
    store = ssl_parts.discover(
        place / "runs" / "parts",
        place / "photos",
        weights=result.folder,
        data_keys={"size": 48},
        parts={"size": 8, "k": 3},
        run={"threads": 1, "pictures": 0},
    )
    assert store.batch([0, 1]).shape == (2, 8, 8) and store.k >= 3
    rows = ssl_parts.evaluate(
        result.folder,
        place / "photos",
        protocol="knn",
        out=place / "evaluation" / "mine",
        data_keys={"size": 48},
        run={"cache": None},
    )
    assert rows[0].name == "mine" and rows[0].protocol == "knn"
    assert len(list((place / "evaluation" / "mine").glob("*_knn/results.json"))) == 1
