import json

import numpy as np
import pytest
import torch

import evaluation.feature_cache as module
from evaluation.feature_cache import FeatureCache
from evaluation.features import extract_features
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import DataError


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(*args, **options):
        calls.append(options)
        return extract_features(*args, **options)

    monkeypatch.setattr(module, "extract_features", counting)
    return calls


def test_second_time_from_disk_bit_for_bit(encoder, squares, tmp_path, counted):
    first = FeatureCache(tmp_path).pooled(encoder, squares(images=5))
    again = FeatureCache(tmp_path).pooled(encoder, squares(images=5))
    assert len(counted) == 1
    assert (first.pooled == again.pooled).all()
    assert (again.pooled == extract_features(encoder, squares(images=5)).pooled).all()
    assert (again.labels == squares(images=5).labels).all()


def test_what_matters_makes_another_key(encoder, squares, tmp_path, counted):
    cache = FeatureCache(tmp_path)
    bank = squares(images=6)
    other = build_encoder("resnet18", small=True, width=0.25, last_stage="layer2").eval()
    other.load_state_dict(encoder.state_dict())
    cache.pooled(encoder, bank)
    cache.pooled(other, bank)
    assert len(counted) == 1  # equal weights are equal
    with torch.no_grad():
        other.model.conv1[0].weight[0, 0, 0, 0] += 1e-3
    changes = [
        (other, bank, "pooled"),
        (encoder, bank, "average"),
        (encoder, bank.subset([0, 1, 2]), "pooled"),
        (encoder, squares(images=6, split="test"), "pooled"),
        (encoder, squares(images=6, labels=np.zeros(6, dtype=int)), "pooled"),
    ]
    for number, (network, images, pooling) in enumerate(changes, start=2):
        cache.pooled(network, images, pooling)
        assert len(counted) == number


def test_changed_normalisation_is_another_encoder(encoder, squares, tmp_path, counted):
    cache = FeatureCache(tmp_path)
    cache.pooled(encoder, squares(images=4))
    mean, std = encoder.mean.tolist(), encoder.std.tolist()
    encoder.set_normalisation([0.5] * 3, [0.5] * 3)
    cache.pooled(encoder, squares(images=4))
    encoder.set_normalisation(mean, std)
    assert len(counted) == 2


def test_pixels_that_changed_under_the_same_names(encoder, squares, tmp_path, counted, monkeypatch):
    cache = FeatureCache(tmp_path)
    cache.pooled(encoder, squares(images=4))
    kind = type(squares(images=4).dataset)
    original = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, i: _brighter(original(self, i)))
    cache.pooled(encoder, squares(images=4))
    assert len(counted) == 2


def _brighter(sample):
    from dataclasses import replace

    return replace(sample, image=sample.image + 1)


def test_damage_is_said(encoder, squares, tmp_path):
    FeatureCache(tmp_path).pooled(encoder, squares(images=4))
    (place,) = tmp_path.iterdir()
    assert json.loads((place / "key.json").read_text())["pooling"] == "pooled"
    (place / "pooled.npy").write_bytes((place / "pooled.npy").read_bytes()[:100])
    with pytest.raises(DataError, match="are damaged"):
        FeatureCache(tmp_path).pooled(encoder, squares(images=4))


def test_no_folder_keeps_nothing(encoder, squares, counted):
    for _ in range(2):
        FeatureCache(None).pooled(encoder, squares(images=4))
    assert len(counted) == 2
