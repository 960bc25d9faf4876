import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parts_stand_ins import DiscBank, TinyEncoder
from sklearn.metrics import normalized_mutual_info_score

from ssl_parts.errors import ConfigError, PartDiscoveryError
from ssl_parts.parts import (
    DatasetConfig,
    MaskConfig,
    NoForegroundConfig,
    PartStore,
    PerImageConfig,
    VotesConfig,
    discover_parts,
)
from ssl_parts.parts.dense.stages import point_stages

CONFIG = PerImageConfig(k=3, size=16)
DATASET = DatasetConfig(k=3, size=16)
METHODS = {
    "per_image": CONFIG,
    "pca": replace(CONFIG, pca_dims=8, polish=2, stages=["middle", "coarse"]),
    "dataset": DATASET,
    "place": replace(DATASET, position=0.5, spherical=False),
}


def all_ids(store):
    return store.batch(range(len(store)))


@pytest.mark.parametrize("name", METHODS)
def test_ids_do_not_depend_on_batch_processes_or_memory(name, tiny_encoder, disc_bank, tmp_path):
    config = METHODS[name]
    expected = all_ids(discover_parts(tiny_encoder, disc_bank, config))
    for batch in (1, 64):
        again = discover_parts(
            tiny_encoder, disc_bank, replace(config, batch=batch), tmp_path / f"batch{batch}"
        )
        assert torch.equal(all_ids(again), expected)
    for rank in (1, 0, 2):
        shared = discover_parts(
            tiny_encoder, disc_bank, config, tmp_path / "ranks", rank=rank, world_size=3
        )
    assert shared.complete and torch.equal(all_ids(shared), expected)


@pytest.mark.parametrize("name", METHODS)
def test_object_and_its_halves_are_found(name, tiny_encoder, disc_bank):
    config = METHODS[name]
    if name == "place":
        config = replace(config, position=0.05)
    store = discover_parts(tiny_encoder, disc_bank, config)
    assert store.scope == ("image" if config.method == "per_image" else "dataset")
    true, found = disc_bank.masks[:, ::2, ::2], all_ids(store)
    inside = (true > 0) & (found > 0)
    assert inside.sum() > 0.7 * (true > 0).sum()
    scores = [normalized_mutual_info_score(t[m], f[m]) for t, f, m in zip(true, found, inside)]
    assert sum(scores) / len(scores) > 0.5
    if store.scope == "dataset":
        assert normalized_mutual_info_score(true[inside], found[inside]) > 0.5


SCRIPT = """
    import sys, time
    sys.path.insert(0, {folder!r})
    from stand_ins import DiscBank, TinyEncoder
    from pathlib import Path
    from ssl_parts.parts import PerImageConfig, discover_parts
    bank = DiscBank()
    def slowly(count):
        time.sleep(0.3)
    discover_parts(TinyEncoder(), bank, PerImageConfig(k=3, size=16, batch=4), Path({out!r}), progress=slowly)
"""


def test_killed_in_the_middle_and_started_again(tiny_encoder, disc_bank, tmp_path):
    out = tmp_path / "parts"
    script = textwrap.dedent(SCRIPT).format(folder=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.time() + 600
    while not (out / "fit.pt").exists() or len(PartStore.open(out).pending()) == 20:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = len(PartStore.open(out).pending())
    assert 0 < left < 20
    disc_bank.reads = 0
    resumed = discover_parts(tiny_encoder, disc_bank, CONFIG, out)
    assert disc_bank.reads == left  # neither the finished images nor the sample are read again
    assert torch.equal(all_ids(resumed), all_ids(discover_parts(tiny_encoder, disc_bank, CONFIG)))


@pytest.mark.parametrize("name", METHODS)
def test_memory_does_not_grow_with_the_number_of_images(name, tiny_encoder, tmp_path):
    """Of all images and maps that were ever made, only those of a batch or two are alive at any
    time.
    """
    bank, made, alive = DiscBank(count=96), weakref.WeakSet(), []
    read, forward = bank.images, tiny_encoder.forward

    def watched_read(indices):
        images = read(indices).clone()
        made.add(images)
        return images

    def watched_forward(images_BCHW, stages=None):
        found = forward(images_BCHW, stages)
        made.update(found.maps.values())
        alive.append(len(made))
        return found

    bank.images, tiny_encoder.forward = watched_read, watched_forward
    config = replace(METHODS[name], batch=8, foreground=VotesConfig(sample=8))
    if isinstance(config, DatasetConfig):
        config = replace(config, sample_images=8)
    store = discover_parts(tiny_encoder, bank, config, tmp_path / "parts")
    # two batches of maps, and images that are read ahead
    assert len(alive) >= 12 and max(alive) <= 10
    assert isinstance(store._ids, np.memmap)


def test_nothing_is_done_twice(tiny_encoder, disc_bank, tmp_path):
    discover_parts(tiny_encoder, disc_bank, CONFIG, tmp_path / "parts")
    tiny_encoder.calls.clear()
    discover_parts(tiny_encoder, disc_bank, CONFIG, tmp_path / "parts")
    assert tiny_encoder.calls == []


def test_encoder_is_left_as_it_was_and_used_in_evaluation_mode(tiny_encoder, disc_bank):
    tiny_encoder.train()
    tiny_encoder.weights.eval()
    first = discover_parts(tiny_encoder, disc_bank, CONFIG)
    assert (
        tiny_encoder.training
        and tiny_encoder.dropout.training
        and not tiny_encoder.weights.training
    )
    # no dropout
    assert torch.equal(all_ids(first), all_ids(discover_parts(tiny_encoder, disc_bank, CONFIG)))


def test_other_weights_or_images_do_not_continue_a_store(tiny_encoder, disc_bank, tmp_path):
    discover_parts(tiny_encoder, disc_bank, CONFIG, tmp_path / "parts")
    with pytest.raises(PartDiscoveryError, match=r"encoder\.hash"):
        discover_parts(TinyEncoder(seed=1), disc_bank, CONFIG, tmp_path / "parts")
    with pytest.raises(PartDiscoveryError, match=r"config\.k: 3 there, 2 now"):
        discover_parts(tiny_encoder, disc_bank, replace(CONFIG, k=2), tmp_path / "parts")
    other = DiscBank()
    other.paths = other.paths[::-1]
    with pytest.raises(PartDiscoveryError, match="images"):
        discover_parts(tiny_encoder, other, CONFIG, tmp_path / "parts")


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_was_learned_is_used_on_other_images(where, tiny_encoder, disc_bank, tmp_path):
    config = METHODS["dataset"]
    out = None if where == "memory" else tmp_path / "train"
    train = discover_parts(tiny_encoder, disc_bank, config, out)
    train = train if out is None else PartStore.open(out)
    same = discover_parts(tiny_encoder, disc_bank, config, fitted=train)
    assert torch.equal(all_ids(same), all_ids(train))
    test_bank = DiscBank(count=7, seed=5)
    store = discover_parts(tiny_encoder, test_bank, config, fitted=train)
    true, found = test_bank.masks[:, ::2, ::2], all_ids(store)
    both_true = torch.cat([true.flatten(), disc_bank.masks[:, ::2, ::2].flatten()])
    both_found = torch.cat([found.flatten(), all_ids(train).flatten()])
    apart = normalized_mutual_info_score(
        disc_bank.masks[:, ::2, ::2].flatten(), all_ids(train).flatten()
    )
    # id 2 is the same part in both
    assert normalized_mutual_info_score(both_true, both_found) > 0.9 * apart


def test_dataset_assignment_is_the_nearest_centroid(tiny_encoder, disc_bank):
    """Assignment from projected small maps against distances of the wide points."""
    from ssl_parts.parts import hypercolumn

    for spherical in (True, False):
        config = DatasetConfig(
            k=4,
            size=16,
            stages=["fine", "coarse"],
            spherical=spherical,
            foreground=NoForegroundConfig(),
        )
        store = discover_parts(tiny_encoder, disc_bank, config)
        state = store.fit["method"]
        points = hypercolumn(
            tiny_encoder.eval()(disc_bank.pixels / 255, stages=["fine", "coarse"]).maps, 16
        )
        points = points - state["mean_D"]
        points = torch.nn.functional.normalize(points, dim=-1) if spherical else points
        by_hand = torch.cdist(points.double(), state["centroids_KD"].double()).argmin(-1)
        assert (by_hand.view(20, 16, 16) == all_ids(store)).float().mean() > 0.999


def test_faiss_and_torch_agree(tiny_encoder, disc_bank):
    scores = []
    for spherical in (True, False):
        config = DatasetConfig(k=2, size=16, spherical=spherical)
        stores = [
            discover_parts(tiny_encoder, disc_bank, replace(config, backend=backend))
            for backend in ("torch", "faiss")
        ]
        scores.append(
            normalized_mutual_info_score(all_ids(stores[0]).flatten(), all_ids(stores[1]).flatten())
        )
    assert min(scores) > 0.9


def test_elbow_finds_the_number_of_parts(tiny_encoder, disc_bank):
    config = DatasetConfig(
        k=8, size=16, stages=["coarse"], elbow=0.3, spherical=False, foreground=MaskConfig()
    )
    store = discover_parts(tiny_encoder, disc_bank, config)
    assert 2 <= len(store.fit["method"]["centroids_KD"]) <= 3


def test_colour_needs_no_encoder(disc_bank):
    for position in (0.0, 1.0):
        config = replace(CONFIG, features="colour", position=position, foreground=MaskConfig())
        assert not config.needs_encoder
        assert discover_parts(None, disc_bank, config).complete
    with pytest.raises(ConfigError, match="needs an encoder"):
        discover_parts(None, disc_bank, CONFIG)


def test_broken_features_and_too_many_parts_name_the_image(tiny_encoder, disc_bank):
    for config in (CONFIG, DATASET):
        good = discover_parts(tiny_encoder, disc_bank, config)
        broken = TinyEncoder()
        broken.forward = lambda x, stages: _poisoned(tiny_encoder, x, stages, disc_bank.pixels[13])
        with pytest.raises(PartDiscoveryError, match=r"non-finite.*disc_13\.png"):
            discover_parts(broken, disc_bank, config, fitted=good)
    tight = replace(CONFIG, k=200, foreground=MaskConfig())
    with pytest.raises(PartDiscoveryError, match=r"parts\.k=200 but disc_\d+\.png has \d+ points"):
        discover_parts(tiny_encoder, disc_bank, tight)


def _poisoned(encoder, images, stages, target):
    features = encoder(images, stages)
    rows = (images * 255).round().to(torch.uint8).eq(target).flatten(1).all(1)
    for maps in features.maps.values():
        maps[rows] = float("nan")
    return features


def test_default_stages(tiny_encoder):
    assert point_stages(tiny_encoder, CONFIG, with_last=True) == ("middle", "coarse")
    assert point_stages(tiny_encoder, CONFIG, with_last=False) == ("middle",)
    fine = replace(CONFIG, stages=["fine"])
    assert point_stages(tiny_encoder, fine, with_last=True) == ("fine",)


def test_several_processes_need_a_folder(tiny_encoder, disc_bank):
    with pytest.raises(PartDiscoveryError, match="folder that they share"):
        discover_parts(tiny_encoder, disc_bank, CONFIG, world_size=2)
