"""Seeds at once: as many processes as asked for, a log each, errors named, signals handed on."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from evaluation.results import save_results
from ssl_parts.comparison import seeds
from ssl_parts.engine.stop import REQUEUE, Stopped
from ssl_parts.errors import ConfigError, TrainingError
from ssl_parts.recipes.load import load_recipe


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Forked instead of spawned, so that the children know what stands for `pretrain` here."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(seeds.multiprocessing, "get_context", lambda kind: fork)
    monkeypatch.setattr(seeds, "available_cores", lambda: 5)
    return load_recipe("quickstart", [f"run.dir={tmp_path}", "run.name=many"])


def work(config):
    """Stands for `pretrain`: says how many others ran when it began, and with how many threads;
    seeds 0 and 3 meet.
    """
    folder, place = Path(config.run.dir) / config.run.name, Path(config.run.dir)
    running = len(list(place.glob("begun_*"))) - len(list(place.glob("ended_*")))
    (place / f"begun_{config.run.seed}").touch()
    deadline = time.monotonic() + 20
    while (
        not ((place / "begun_0").exists() and (place / "begun_3").exists())
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    print(f"seed {config.run.seed} at work")
    folder.mkdir(parents=True, exist_ok=True)
    extra = {"others": running, "threads": config.run.threads}
    save_results(folder / "results.json", "pretrain", [], **extra)
    (place / f"ended_{config.run.seed}").touch()


def wait_for_sigterm(config, first=lambda: None):
    """Stands for a long training that saves and leaves when it is asked to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(REQUEUE))
    first()
    Path(config.run.dir, f"begun_{config.run.seed}").touch()
    time.sleep(30)


def test_so_many_at_once_and_not_more(config, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "pretrain", work)
    results = seeds.run_seeds(config, [0, 3, 4], jobs=2)
    assert results[0].extra["others"] + results[3].extra["others"] <= 1
    assert results[4].extra["others"] <= 1
    # at once
    assert (tmp_path / "begun_3").stat().st_mtime <= (tmp_path / "ended_0").stat().st_mtime
    assert list(results) == [0, 3, 4] and results[3].extra["threads"] == 2
    assert "seed 3 at work" in (tmp_path / "many" / "seed_3.log").read_text()


def test_a_seed_that_fails_is_named_and_stops_the_others(config, tmp_path, monkeypatch):
    def one_fails(config):
        if config.run.seed == 1:
            while not (tmp_path / "begun_0").exists():
                time.sleep(0.01)
            raise TrainingError("the loss is not finite")
        wait_for_sigterm(config)

    monkeypatch.setattr(seeds, "pretrain", one_fails)
    begun = time.monotonic()
    with pytest.raises(
        TrainingError,
        match=r"seed_1\.log ended with code 1 and said last: TrainingError: the loss is",
    ):
        seeds.run_seeds(config, [0, 1], jobs=2)
    assert time.monotonic() - begun < 20 and not multiprocessing.active_children()


def test_a_signal_is_handed_on(config, tmp_path, monkeypatch):
    def parent_hears(config):
        wait_for_sigterm(config, lambda: os.kill(os.getppid(), signal.SIGTERM))

    monkeypatch.setattr(seeds, "pretrain", parent_hears)
    earlier = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        seeds.run_seeds(config, [0, 1, 2], jobs=2)
    assert not (tmp_path / "begun_2").exists()
    assert not multiprocessing.active_children() and signal.getsignal(signal.SIGTERM) is earlier


def test_jobs_out_of_range(config, monkeypatch):
    with pytest.raises(ConfigError, match="--jobs 0"):
        seeds.run_seeds(config, [0, 1], jobs=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--jobs 2"):
        seeds.run_seeds(config, [0, 1], jobs=2)
