"""Checkpoints are whole or not there; a damaged one falls back to the one before."""

import builtins
import json
import logging
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_run import overrides

from ssl_parts.engine.checkpoint import load_checkpoint, save_checkpoint
from ssl_parts.engine.loop import Cadence
from ssl_parts.errors import ConfigError, TrainingError
from ssl_parts.files import write_atomic
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.recipes.load import load_recipe


def save(folder, step, keep=3, **more):
    weights = {"w": torch.full((4,), float(step)), "n": torch.tensor(step)}
    return save_checkpoint(
        folder,
        step,
        weights,
        weights,
        {"state": {0: torch.ones(2)}},
        {"log_position": 7},
        keep,
        **more,
    )


def test_round_trip_and_the_newest_wins(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step_000015", "step_000020"]
    assert (tmp_path / "last").read_text() == "step_000020"
    found = load_checkpoint(tmp_path)
    assert (found.step, found.extra) == (20, {"log_position": 7})
    assert torch.equal(found.student["w"], torch.full((4,), 20.0))
    assert torch.equal(found.optimizer["state"][0], torch.ones(2))


def test_an_empty_folder_has_none(tmp_path):
    assert load_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no state"])
def test_a_damaged_newest_is_said_and_skipped(tmp_path, damage, caplog):
    save(tmp_path, 5)
    newest = save(tmp_path, 10)
    weights = newest / "student.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-3])
    elif damage == "flipped":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
    elif damage == "missing":
        (newest / "optimizer.pt").unlink()
    else:
        (newest / "state.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path).step == 5
    assert "step_000010 is damaged" in caplog.text


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    (tmp_path / ".step_000009.4711.tmp").mkdir()
    (tmp_path / ".step_000009.4711.tmp" / "student.safetensors").write_bytes(b"half")
    (tmp_path / ".last.4711.tmp").write_text("step_0")
    save(tmp_path, 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step_000010"]


def test_milestones_stay_beside_the_newest(tmp_path):
    for step in range(0, 1_200_000, 100_000):
        save(tmp_path, step, keep=2, keep_every=400_000)
    kept = [int(p.name[5:]) for p in sorted(tmp_path.glob("step_*"))]
    assert sorted(kept) == [0, 400_000, 800_000, 1_000_000, 1_100_000]
    assert load_checkpoint(tmp_path).step == 1_100_000  # not the last one by alphabet


def test_milestones_are_saved_although_no_checkpoint_is_due():
    cadence = Cadence(log_every=10, checkpoint_every=500, keep_every=300)
    assert [step for step in range(100, 1300, 100) if cadence.saves_after(step)] == [
        300,
        500,
        600,
        900,
        1000,
        1200,
    ]
    with pytest.raises(ConfigError, match=r"train\.keep_every=0"):
        TrainConfig(keep_every=0).check()


@pytest.fixture
def small_files():
    """The system refuses to let a file grow, as a full disk does: whatever library writes, the
    write fails.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [0, 100, 500, 1500])
def test_a_full_disk_leaves_the_earlier_ones(tmp_path, small_files, room):
    save(tmp_path, 5)
    small_files(room)
    with pytest.raises(
        TrainingError, match=r"checkpoint of step 10 could not be written to .*step_000010"
    ):
        save(tmp_path, 10)
    small_files(resource.RLIM_INFINITY)
    assert load_checkpoint(tmp_path).step == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step_000005"]


def test_a_read_only_folder_is_one_clear_error(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(
        TrainingError,
        match=r"step 10 could not be written.*Permission denied.*mend the permissions",
    ):
        save(tmp_path, 10)


@pytest.mark.parametrize("where", ["metrics.jsonl", "encoder.safetensors", "parts.json"])
def test_a_disk_that_fills_up_during_a_run_is_one_clear_error(tmp_path, monkeypatch, where):
    """Refuse to open or rename one of the files of a run: the error names it, and the next start
    ends the run.
    """
    AcceleratorState._reset_state(True)
    config = load_recipe(
        "quickstart", overrides(tmp_path, "run.evaluate=false", "run.control=false")
    )
    with monkeypatch.context() as patched:
        for owner, name in ((builtins, "open"), (os, "replace")):
            patched.setattr(owner, name, full_for(getattr(owner, name), where))
        with pytest.raises(TrainingError, match=r"No space left|could not be written"):
            pretrain(config)


def full_for(function, name):
    def refuse(*args, **kwargs):
        if any(str(a).endswith(name) for a in args) and (
            function is not open or "r" not in args[1:]
        ):
            raise OSError(28, "No space left on device", str(args[-1]))
        return function(*args, **kwargs)

    return refuse


def test_write_atomic_replaces_whole(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, json.dumps({"a": 1}))
    write_atomic(path, json.dumps({"a": 2}))
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
