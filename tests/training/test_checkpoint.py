"""Checkpoints are whole or not there; a damaged one falls back to the one before."""

import json
import logging

import pytest
import torch

from ssl_parts.errors import TrainingError
from ssl_parts.training import checkpoint
from ssl_parts.training.checkpoint import load_checkpoint, save_checkpoint, write_atomic


def save(folder, step, keep=3):
    weights = {"w": torch.full((4,), float(step)), "n": torch.tensor(step)}
    return save_checkpoint(folder, step, weights, weights, {"state": {0: torch.ones(2)}}, {"log_position": 7}, keep)


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


def test_a_full_disk_leaves_the_earlier_ones(tmp_path, monkeypatch):
    save(tmp_path, 5)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match=r"step 10 could not be written.*No space left"):
        save(tmp_path, 10)
    assert load_checkpoint(tmp_path).step == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step_000005"]


def test_write_atomic_replaces_whole(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, json.dumps({"a": 1}))
    write_atomic(path, json.dumps({"a": 2}))
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
