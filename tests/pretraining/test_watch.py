"""Figures of a running phase against scikit-learn, and what stops a collapsed one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import build_encoder
from ssl_parts.engine.modes import set_train_mode
from ssl_parts.errors import TrainingError
from ssl_parts.objectives import Outputs
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.pretraining.watch import REPORTS, Watch, classify_online

MAIN = SimpleNamespace(
    is_main_process=True, device=torch.device("cpu"), reduce=lambda value, how: value
)


def test_online_knn_is_that_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (120,), generator=g)
    features = torch.nn.functional.one_hot(labels, 8) + 0.35 * torch.randn(120, 8, generator=g)
    unit = torch.nn.functional.normalize(features, dim=1).numpy()
    weigh = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
    theirs = KNeighborsClassifier(10, metric="cosine", weights=weigh).fit(unit[::2], labels[::2])
    expected = theirs.score(unit[1::2], labels[1::2])
    assert 0.5 < expected < 1
    assert classify_online(features, labels) == pytest.approx(expected, abs=0.02)


def test_measuring_images_changes_neither_modes_nor_statistics_nor_random_numbers(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    set_train_mode(encoder, [encoder], freeze_norm=False)
    encoder.model.layer1.eval()
    modes = [m.training for m in encoder.modules()]
    state = {n: v.clone() for n, v in encoder.state_dict().items()}
    bank = build_bank(DataConfig(size=48, images=24, species=4))
    numbers = torch.get_rng_state()
    found = Watch("round 0", tmp_path, 0, bank, MAIN).measure_images(encoder, encoder)
    assert found["teacher_agreement"] == pytest.approx(1, abs=1e-5)
    assert 0 <= found["knn"] <= 1
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(v, state[n]) for n, v in encoder.state_dict().items())
    other = SimpleNamespace(is_main_process=False, device=torch.device("cpu"))
    assert Watch("round 0", tmp_path, 0, bank, other).measure_images(encoder, None) == {}


def test_a_collapse_stops_with_the_figures_and_a_moment_of_it_does_not(tmp_path):
    watch = Watch("round 0", tmp_path, 0, None, MAIN)
    spread = Outputs(pooled_ND=torch.randn(6, 8), map_NDHW=torch.zeros(0))
    same = Outputs(pooled_ND=torch.ones(6, 8) + 1e-6 * torch.randn(6, 8), map_NDHW=torch.zeros(0))
    for outputs in (same, same, spread, *[same] * (REPORTS - 1)):
        watch.measure_outputs(outputs)
    with pytest.raises(TrainingError, match="round 0 has collapsed"):
        watch.measure_outputs(same)
    assert "feature_std" in (tmp_path / "collapsed.json").read_text()


def test_images_are_measured_with_reports_only():
    train = TrainConfig(log_every=30, watch_every=100)
    steps = [step for step in range(30, 421, 30) if train.watches_after(step)]
    assert steps == [120, 210, 300, 420]
