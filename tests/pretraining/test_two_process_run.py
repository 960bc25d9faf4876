"""Two CPU processes train as one does: same loss, same weights (frozen batch-norm statistics),
also in the middle.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_run import overrides

from ssl_parts.engine.stop import REQUEUE, Stopped
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.pretraining.phase import Trainer
from ssl_parts.recipes.load import load_recipe

REPO = Path(__file__).resolve().parents[2]
SGD = (
    "train.optimizer=sgd",
    "train.freeze_norm=true",
    "run.evaluate=false",
    "run.control=false",
    "train.rounds=1",
)
# twelve steps of base, and none due in the middle
LONGER = ("train.base_epochs=4", "train.checkpoint_every=100")


def run_one(folder):
    AcceleratorState._reset_state(True)
    pretrain(load_recipe("quickstart", overrides(folder, *SGD, *LONGER)))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    run_one(folder)
    return losses_and_weights(folder)


def losses_and_weights(folder):
    lines = [
        json.loads(line) for line in (folder / "tiny" / "metrics.jsonl").read_text().splitlines()
    ]
    weights = load_file(folder / "tiny" / "round_000" / "encoder.safetensors")
    return [row["loss"] for row in lines if "loss" in row], weights


def assert_same(found, expected):
    for mine, theirs in zip(found, expected):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_two_processes_equal_one(one, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, str(REPO / "launch/pretrain.py"), *overrides(tmp_path, *SGD, *LONGER)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=600)
    assert_same(losses_and_weights(tmp_path), one)


def test_one_then_two_then_one_process_equal_one(one, tmp_path, monkeypatch):
    """Stopped as one process, gone on as two of which a signal reaches only one, ended as one."""
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr("ssl_parts.engine.stop.StopSignal.agreed", lambda self, step: step == 1)
        run_one(tmp_path)
    checkpoints = tmp_path / "tiny" / "base" / "checkpoints"
    assert (checkpoints / "last").read_text() == "step_000002"
    world = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29500 + os.getpid() % 1000),
        "WORLD_SIZE": "2",
    }
    command = [
        sys.executable,
        str(REPO / "tests/engine/stopped_rank.py"),
        "3",
        *overrides(tmp_path, *SGD, *LONGER),
    ]
    ranks = [
        subprocess.Popen(command, cwd=REPO, env=os.environ | world | {"RANK": r, "LOCAL_RANK": r})
        for r in ("0", "1")
    ]
    assert [process.wait(300) for process in ranks] == [REQUEUE, REQUEUE]
    # told at step 3, seen at 4, read at 8
    assert (checkpoints / "last").read_text() == "step_000009"
    monkeypatch.setattr(Trainer, "seed_step", counted := CountedSteps(Trainer.seed_step))
    run_one(tmp_path)
    assert counted.steps == [9, 10, 11, 0, 1, 2]
    assert_same(losses_and_weights(tmp_path), one)


class CountedSteps:
    def __init__(self, function):
        self.function, self.steps = function, []

    def __get__(self, trainer, kind):
        return lambda step: [self.steps.append(step), self.function(trainer, step)]
