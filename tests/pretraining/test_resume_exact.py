"""Killed anywhere and started again, a run ends bit-equal to one that was never killed (CPU,
fp32).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from tiny_run import contents, overrides

from ssl_parts.engine import checkpoint
from ssl_parts.engine.stop import REQUEUE
from ssl_parts.jobs import pretrain
from ssl_parts.jobs.pretrain import pretrain as run_recipe
from ssl_parts.parts.store import PartStore
from ssl_parts.pretraining import phase
from ssl_parts.pretraining import stages as rounds
from ssl_parts.recipes.load import load_recipe

REPO = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it and tidy up."""


def run(folder, *more):
    AcceleratorState._reset_state(True)
    return run_recipe(load_recipe("quickstart", overrides(folder, *more)))


def die_at(monkeypatch, event):
    """Raise Killed at the event-th of all writes and steps, half of the time just before and half
    just after it.
    """
    seen = {"count": 0}

    def wrap(function):
        def counted(*args, **kwargs):
            seen["count"] += 1
            if seen["count"] == event and event % 2:
                raise Killed
            result = function(*args, **kwargs)
            if seen["count"] == event:
                raise Killed
            return result

        return counted

    monkeypatch.setattr(checkpoint.os, "replace", wrap(os.replace))
    monkeypatch.setattr(PartStore, "write", wrap(PartStore.write))
    monkeypatch.setattr(phase.Trainer, "update", wrap(phase.Trainer.update))
    monkeypatch.setattr(rounds, "write_atomic", wrap(checkpoint.write_atomic))
    monkeypatch.setattr(pretrain, "evaluate_plan", wrap(pretrain.evaluate_plan))
    return seen


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    results = run(folder)
    return (
        contents(folder / "tiny"),
        [row.values for row in results.rows],
        folder,
    )


def test_twenty_deaths_change_nothing(unbroken, tmp_path, monkeypatch):
    expected, values, _ = unbroken
    deaths = 0
    for event in [1, 2, 5, 9, 14, 3, 8, 4, 7, 12, 6, 11, 13, 10, 17, 15, 2, 9, 16, 5]:
        with monkeypatch.context() as patched:
            die_at(patched, event)
            try:
                run(tmp_path)
            except Killed:
                deaths += 1
    results = run(tmp_path)
    assert deaths >= 12
    found = contents(tmp_path / "tiny")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert [row.values for row in results.rows] == values


def test_a_stop_in_every_stage_loses_nothing(unbroken, tmp_path, monkeypatch):
    places = [
        (phase.Trainer, "update", signal.SIGUSR1, "base/checkpoints/step_000001"),
        (rounds, "discover_parts", signal.SIGTERM, "base/encoder.safetensors"),
        (rounds, "part_stats", signal.SIGUSR1, "round_000/parts/done.npy"),
        (pretrain, "evaluate_plan", signal.SIGTERM, "round_001/encoder.safetensors"),
    ]
    for place, name, number, left in places:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
            patched.setattr(place, name, signalled(getattr(place, name), number))
            run(tmp_path)
        assert stopped.value.code == REQUEUE == 75
        assert (tmp_path / "tiny" / left).exists(), left
        assert not (tmp_path / "tiny" / "results.json").exists()
    run(tmp_path)
    assert contents(tmp_path / "tiny") == unbroken[0]


def test_deleted_parts_and_a_damaged_checkpoint_are_made_again(unbroken, tmp_path, caplog):
    folder = tmp_path / "tiny"
    shutil.copytree(unbroken[2] / "tiny", folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(unbroken[2]), str(tmp_path)))
    shutil.rmtree(folder / "round_001" / "parts")
    (folder / "round_001" / "encoder.safetensors").unlink()
    newest = folder / "round_001" / "checkpoints" / "step_000003" / "student.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    run(tmp_path)
    assert "step_000003 is damaged" in caplog.text
    found, expected = contents(folder), dict(unbroken[0])
    for lines in (found, expected):  # what is made again is logged behind what was there
        lines["metrics"] = sorted(lines["metrics"], key=str)
    assert found == expected


def signalled(function, number):
    def wrapped(*args, **kwargs):
        os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return wrapped


def test_sigkill_of_the_real_command(unbroken, tmp_path):
    expected = unbroken[0]
    command = [sys.executable, str(REPO / "launch/pretrain.py"), *overrides(tmp_path)]
    for sign in ("round_000/parts/done.npy", "round_001/checkpoints"):
        process = subprocess.Popen(
            command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 120
        while (
            not (tmp_path / "tiny" / sign).exists()
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "tiny" / sign).exists()
    subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=600)
    assert contents(tmp_path / "tiny") == expected
    assert (tmp_path / "tiny" / "results.json").exists()


def test_another_configuration_is_refused_with_the_difference_and_speed_keys_are_not(unbroken):
    before, _, folder = unbroken
    from ssl_parts.errors import ConfigError

    with pytest.raises(ConfigError, match=r"train\.lr: None -> 0\.5"):
        run(folder, "train.lr=0.5")
    with pytest.raises(ConfigError, match=r"run\.resume=never"):
        run(folder, "run.resume=never")
    run(folder, "run.threads=2", "train.keep_every=7")
    assert contents(folder / "tiny") == before


def test_the_run_folder_is_what_the_design_says(unbroken):
    folder = unbroken[2] / "tiny"
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "report.html",
        "export/config.json",
    ):
        assert (folder / name).is_file(), name
    for number in range(2):
        assert (folder / f"round_00{number}" / "parts.png").is_file()
        assert PartStore.open(folder / f"round_00{number}" / "parts").complete
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["phase"] == "round 1"] == [1, 2, 3]
    last = [row for row in logged if row["phase"] == "round 1"][-1]
    terms = {"loss", "part", "instance", "shared_parts", "lr"}
    watched = {"feature_std", "rank_me", "part_entropy", "knn", "pairs_per_second", "data_wait"}
    assert terms | watched <= last.keys()
