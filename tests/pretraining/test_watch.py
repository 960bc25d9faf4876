"""Looks at a running phase against formulas and scikit-learn, and what stops a collapsed one on
every process.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import build_encoder
from ssl_parts.engine.monitor import Guard, part_entropy
from ssl_parts.engine.optim import set_train_mode
from ssl_parts.errors import TrainingError
from ssl_parts.objectives import ObjectiveConfig, Outputs, PartNetwork
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.pretraining.watch import REPORTS, Watch, online_knn

MAIN = SimpleNamespace(
    is_main_process=True, device=torch.device("cpu"), reduce=lambda value, how: value
)


def test_part_entropy_is_that_of_the_valid_ids():
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    p = np.array([2, 1]) / 3
    assert float(part_entropy(ids, valid, 4)) == pytest.approx(
        -(p * np.log(p)).sum() / math.log(4), abs=1e-6
    )
    assert float(
        part_entropy(torch.arange(4)[None], torch.ones(1, 4, dtype=torch.bool), 4)
    ) == pytest.approx(1)
    assert float(part_entropy(ids, torch.zeros_like(valid), 4)) == 0


def test_online_knn_is_sklearns():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (120,), generator=g)
    features = torch.nn.functional.one_hot(labels, 8) + 0.35 * torch.randn(120, 8, generator=g)
    unit = torch.nn.functional.normalize(features, dim=1).numpy()
    weigh = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
    theirs = KNeighborsClassifier(10, metric="cosine", weights=weigh).fit(unit[::2], labels[::2])
    expected = theirs.score(unit[1::2], labels[1::2])
    assert 0.5 < expected < 1
    assert online_knn(features, labels) == pytest.approx(expected, abs=0.02)


def test_a_look_changes_neither_modes_nor_statistics_nor_random_numbers():
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    student = PartNetwork(encoder, ObjectiveConfig(hidden=8, projection=4))
    set_train_mode(student, freeze_norm=False)
    student.encoder.model.layer1.eval()
    modes, state = (
        [m.training for m in student.modules()],
        {n: v.clone() for n, v in student.state_dict().items()},
    )
    bank = build_bank(DataConfig(size=48, images=24, species=4))
    numbers = torch.get_rng_state()
    found = Watch(SimpleNamespace(), bank, MAIN).look(student, student)
    assert found["teacher_agreement"] == pytest.approx(1, abs=1e-5)
    assert 0 <= found["knn"] <= 1
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [m.training for m in student.modules()] == modes
    assert all(torch.equal(v, state[n]) for n, v in student.state_dict().items())
    other = SimpleNamespace(is_main_process=False, device=torch.device("cpu"))
    assert Watch(SimpleNamespace(), bank, other).look(student, None) == {}


def test_a_collapse_stops_with_the_figures_and_a_moment_of_it_does_not(tmp_path):
    watch = Watch(SimpleNamespace(name="round 0", folder=tmp_path), None, MAIN)
    spread, same = (
        Outputs(torch.randn(6, 8), None),
        Outputs(torch.ones(6, 8) + 1e-6 * torch.randn(6, 8), None),
    )
    terms = {"loss": torch.tensor(1.0)}
    for outputs in (same, same, spread, *[same] * (REPORTS - 1)):
        watch.report(terms, outputs)
    with pytest.raises(TrainingError, match="round 0 has collapsed"):
        watch.report(terms, same)
    assert "feature_std" in Path(tmp_path / "collapsed.json").read_text()


def test_every_process_hears_of_a_bad_loss_on_one():
    guards = [Guard(torch.device("cpu"), 9) for _ in range(2)]
    for step, loss in enumerate((1.0, float("nan"))):
        guards[0].see(step, {"loss": torch.tensor(1.0)})
        guards[1].see(step, {"loss": torch.tensor(loss)})
    for name in ("first_bad_step", "without_shared"):
        setattr(guards[0], name, torch.stack([getattr(guard, name) for guard in guards]))
    assert guards[0].check() == 1


def test_watching_falls_on_log_lines():
    train = TrainConfig(log_every=30, watch_every=100)
    assert [step for step in range(30, 421, 30) if train.watches_after(step)] == [
        120,
        210,
        300,
        420,
    ]
