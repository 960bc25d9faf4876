import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluation.features import extract_features
from ssl_parts.errors import ConfigError, DataError


def test_pooled_features_are_the_encoders_in_order(encoder, squares):
    bank = squares(images=10)
    table = extract_features(encoder, bank, indices=np.array([7, 2, 5]))
    with torch.no_grad():
        direct = encoder(bank.images([7, 2, 5]).float() / 255).pooled
    assert table.pooled == pytest.approx(direct.numpy(), abs=1e-5)
    assert table.pooled.dtype == np.float32
    assert table.labels.tolist() == bank.labels[[7, 2, 5]].tolist()


def test_batch_size_changes_nothing(encoder, squares):
    bank = squares(images=11)
    one, other = (extract_features(encoder, bank, batch=b, stages=["layer1"]) for b in (3, 64))
    assert one.pooled == pytest.approx(other.pooled, abs=1e-5)
    assert one.dense["layer1"].astype(float) == pytest.approx(
        other.dense["layer1"].astype(float), abs=2e-3
    )


def test_dense_maps_at_their_own_size_and_on_a_grid(encoder, squares):
    bank = squares(images=4)
    own = extract_features(encoder, bank, stages=["layer1", "layer2"], dtype=np.float32)
    assert own.dense["layer2"].shape[2] == 32 // encoder.strides["layer2"]
    grid = extract_features(encoder, bank, stages=["layer2"], size=6)
    assert grid.dense["layer2"].dtype == np.float16
    resized = F.interpolate(torch.tensor(own.dense["layer2"]), size=(6, 6), mode="bilinear")
    assert grid.dense["layer2"].astype(np.float32) == pytest.approx(
        resized.numpy(), rel=2e-3, abs=2e-3
    )


def test_modes_and_gradients_come_back(encoder, squares):
    encoder.train()
    encoder.model.layer1.eval()
    before = [m.training for m in encoder.modules()]
    statistics = encoder.model.bn1.running_mean.clone()
    extract_features(encoder, squares(images=4))
    assert [m.training for m in encoder.modules()] == before
    assert torch.equal(statistics, encoder.model.bn1.running_mean)
    encoder.eval()


def test_poolings_of_a_vit(vit, squares):
    bank = squares(images=3)
    with torch.no_grad():
        direct = vit(bank.images([0, 1, 2]).float() / 255, stages=vit.stages[-2:])
    average = direct.maps[vit.last_stage].mean((2, 3))
    expected = {
        "pooled": direct.tokens[:, 0],
        "cls": direct.tokens[:, 0],
        "average": average,
        "cls+average": torch.cat([direct.tokens[:, 0], average], 1),
        "last2": torch.cat([m.mean((2, 3)) for m in direct.maps.values()], 1),
    }
    for pooling, vectors in expected.items():
        assert extract_features(vit, bank, pooling=pooling).pooled == pytest.approx(
            vectors.numpy(), abs=1e-4
        ), pooling


def test_errors_name_what_is_wrong(encoder, squares):
    bank = squares(images=4)
    with pytest.raises(ConfigError, match="has none"):
        extract_features(encoder, bank, pooling="cls")
    with pytest.raises(ConfigError, match="pooling='max'"):
        extract_features(encoder, bank, pooling="max")
    with pytest.raises(ConfigError, match="layer9"):
        extract_features(encoder, bank, stages=["layer9"])
    with pytest.raises(ConfigError, match="last9"):
        extract_features(encoder, bank, pooling="last9")


def test_non_finite_features_name_the_image(squares):
    from ssl_parts.encoders import build_encoder

    broken = build_encoder("resnet18", small=True, width=0.25, last_stage="layer2")
    torch.nn.init.constant_(broken.model.layer2[1].bn2.bias, float("nan"))
    with pytest.raises(DataError, match=r"squares/train/0\.png are not finite"):
        extract_features(broken, squares(images=4))
