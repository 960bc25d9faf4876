"""pooling=crops: means of embeddings of crops cut by Pillow, kept on disk under their own key."""

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.crop_features import crops_of, extract_crop_features
from evaluation.feature_cache import FeatureCache
from evaluation.features import extract_features
from evaluation.protocols import FewLabelProtocol, LinearProtocol, run_protocol
from evaluation.protocols.bench import Bench
from ssl_parts.errors import ConfigError
from ssl_parts.parts import PartStore, StoreInfo


@pytest.fixture
def bench(encoder, squares):
    return Bench(encoder, squares(images=24), squares(images=16, split="test"))


def embed(encoder, pictures):
    pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return encoder.eval()(torch.from_numpy(pixels / 255)).pooled.mean(0).numpy()


def test_the_mean_of_passes_cut_by_pillow(encoder, squares):
    bank = squares(images=3)
    ids = torch.zeros(3, 8, 8, dtype=torch.uint8)
    ids[:, 0:4, 0:4] = 1  # object: 2, 1 .. 6, 5 eighths with its margin of 1.15
    store = PartStore(StoreInfo(3, 8, 2, background=0))
    store.write(range(3), ids)
    size = bank.size
    detailed = Image.fromarray(bank.resized(2 * size).images([1])[0].permute(1, 2, 0).numpy())
    whole = Image.fromarray(bank.images([1])[0].permute(1, 2, 0).numpy())
    side = round((4 + 0.3) / 8 * 2 * size)  # enlarged about its centre, cut at the edges
    found = detailed.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BICUBIC)
    mirrored = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for pooling, pictures in {
        "crops:image": [whole],
        "crops:flip+image": [whole, mirrored],
        "crops:large": [detailed],
        "crops:image+object": [whole, found],
    }.items():
        table = extract_crop_features(encoder, bank, pooling, store)
        assert table.pooled[1] == pytest.approx(embed(encoder, pictures), abs=2e-3), pooling
        assert table.labels.tolist() == bank.labels.tolist()


def test_one_pass_over_the_image_is_the_plain_pooling(encoder, squares):
    bank = squares(images=5)
    plain = extract_features(encoder, bank).pooled
    assert extract_crop_features(encoder, bank, "crops:image", None, batch=2).pooled == (
        pytest.approx(plain, abs=1e-5)
    )


def test_protocols_take_it_and_the_disk_keeps_it(bench, tmp_path, monkeypatch):
    object.__setattr__(bench, "cache", FeatureCache(tmp_path))
    first = run_protocol(LinearProtocol(pooling="crops"), bench)[0]
    assert first.pooling == "crops, raw" and first.layer == bench.encoder.last_stage
    few = FewLabelProtocol(pooling="crops", shots=[1], draws=2)
    assert run_protocol(few, bench)[0].values["accuracy@1"].values
    again = Bench(bench.encoder, bench.train, bench.test, cache=bench.cache)
    monkeypatch.setattr(Bench, "found_parts", None)  # nothing is discovered twice
    assert run_protocol(LinearProtocol(pooling="crops"), again)[0].values == first.values
    assert len(list(tmp_path.iterdir())) == 2


def test_test_images_take_the_parts_of_the_training_images(bench):
    train, test = bench.found_parts(bench.train), bench.found_parts(bench.test)
    assert len(test.batch(range(16))) == 16 and train.k == test.k
    for name, value in train.fit["method"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, test.fit["method"][name]), name


def test_unknown_passes_are_named(bench):
    with pytest.raises(ConfigError, match=r"'imag', which is not one of .* did you mean 'image'"):
        crops_of("crops:imag+flip")
    with pytest.raises(ConfigError, match="or crops"):
        run_protocol(LinearProtocol(pooling="crop"), bench)
