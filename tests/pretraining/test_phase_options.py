"""The other ways to train: EMA targets, accumulation, clipping, bf16, guards. Each against what it
must mean.
"""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_run import overrides

from ssl_parts.engine.checkpoint import load_checkpoint
from ssl_parts.errors import TrainingError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.pretraining import phase
from ssl_parts.pretraining.phase import Trainer
from ssl_parts.recipes.load import load_recipe

QUICK = ("run.evaluate=false", "run.control=false", "train.rounds=1")


def run(folder, *more):
    AcceleratorState._reset_state(True)
    pretrain(load_recipe("quickstart", overrides(folder, *QUICK, *more)))
    return folder / "tiny"


def test_teacher_targets_train_and_the_kept_network_is_the_teacher(tmp_path):
    folder = run(
        tmp_path,
        "objective.targets=teacher",
        "train.keep=teacher",
        "train.ema=0.5",
        "train.ema_end=1.0",
    )
    last = load_checkpoint(folder / "round_000" / "checkpoints")
    result = load_file(folder / "round_000" / "encoder.safetensors")
    assert any(name.startswith("part_heads.heads.predictor.0") for name in last.student)
    for name, value in result.items():
        assert torch.equal(value, last.teacher[f"encoder.{name}"]), name
    assert not torch.equal(
        result["model.conv1.0.weight"], last.student["encoder.model.conv1.0.weight"]
    )


def test_accumulated_gradients_are_the_mean_over_the_batches(tmp_path, monkeypatch):
    seen = []
    update = Trainer.update

    def recorded(self, step):
        seen.append([p.grad.clone() for p in self.student.parameters() if p.grad is not None])
        update(self, step)

    monkeypatch.setattr(Trainer, "update", recorded)
    frozen = ("train.base_epochs=1", "train.base_lr=0", "train.lr=0", "train.freeze_norm=true")
    run(tmp_path / "single", *frozen)
    single, seen = seen, []
    run(tmp_path / "double", *frozen, "train.accumulate=2", "data.images=32")
    run(tmp_path / "many", *frozen, "data.images=32")
    many = seen[len(seen) // 3 :]
    accumulated, one_by_one = seen[0], many[:2]
    for got, first, second in zip(accumulated, *one_by_one):
        torch.testing.assert_close(got, (first + second) / 2, atol=1e-5, rtol=1e-3)
    assert len(single) == 6


def test_clipping_bounds_the_norm(tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        gradients = [
            p.grad for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    run(tmp_path, "train.clip=0.01")
    assert norms and max(norms) <= 0.0101


def test_bf16_gives_the_same_loss_within_its_precision(tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        folder = run(tmp_path / precision, f"run.precision={precision}")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses[precision] = next(row["loss"] for row in rows if row["phase"] == "base")
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_a_loss_that_is_not_finite_stops_and_lists_the_batch(tmp_path, monkeypatch):
    forward = phase.Objective.__call__

    def broken(self, *args):
        terms = forward(self, *args)
        return terms | {"loss": terms["loss"] * float("nan")}

    monkeypatch.setattr(phase.Objective, "__call__", broken)
    with pytest.raises(TrainingError, match="loss of step 0 is not finite"):
        run(tmp_path)
    listed = (tmp_path / "tiny" / "base" / "non_finite_batch.txt").read_text().split()
    assert len(listed) == 8 == len(set(listed))
    assert not list((tmp_path / "tiny" / "base").glob("checkpoints/step_*"))
