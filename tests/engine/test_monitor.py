"""Monitors against closed forms, and what stops a run."""

import json
import math

import pytest
import torch

from ssl_parts.engine.monitor import Guard, MetricsLog, feature_std, rank_me
from ssl_parts.errors import TrainingError


def test_rank_me_of_known_spectra():
    assert float(rank_me(torch.eye(6))) == pytest.approx(6, rel=1e-3)
    assert float(rank_me(torch.ones(5, 4))) == pytest.approx(1, rel=1e-2)
    p = torch.tensor([3.0, 1.0]) / 4
    expected = math.exp(-float((p * p.log()).sum()))
    assert float(rank_me(torch.diag(torch.tensor([3.0, 1.0])))) == pytest.approx(expected, rel=1e-3)


def test_feature_std_is_one_for_a_sphere_and_zero_for_a_point():
    g = torch.Generator().manual_seed(0)
    assert float(feature_std(torch.randn(4000, 16, generator=g))) == pytest.approx(1, abs=0.02)
    assert float(feature_std(torch.ones(10, 16))) == pytest.approx(0, abs=1e-6)


def test_the_log_forgets_what_came_after_a_checkpoint(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(phase="base", step=9, loss=3.0)
    log.write(phase="round 0", step=1, loss=2.0)
    log.write(phase="round 0", step=2, loss=1.0)
    with open(log.path, "a") as file:
        file.write('{"phase": "round 0", "st')
    log.rewind("round 0", 1)
    log.write(phase="round 0", step=2, loss=1.5)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(row["phase"], row["step"], row["loss"]) for row in lines] == [
        ("base", 9, 3.0),
        ("round 0", 1, 2.0),
        ("round 0", 2, 1.5),
    ]


def test_guard_names_the_first_bad_step_and_stops_without_shared_parts():
    guard = Guard(torch.device("cpu"), patience=3)
    for step, loss in enumerate([1.0, float("nan"), float("inf")]):
        guard.see(step, {"loss": torch.tensor(loss)})
    assert guard.check() == 1
    guard = Guard(torch.device("cpu"), patience=3)
    for shared in (0.0, 1.0, 0.0, 0.0):
        guard.see(0, {"loss": torch.tensor(0.0), "shared_parts": torch.tensor(shared)})
    assert guard.check() is None
    guard.see(0, {"loss": torch.tensor(0.0), "shared_parts": torch.tensor(0.0)})
    with pytest.raises(TrainingError, match="shared a part for 3 steps"):
        guard.check()
