"""Trackers: a run's name and project in each, its settings once, one step over all phases."""

import sys
from types import SimpleNamespace

import accelerate.tracking
import pytest
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_parts.engine.monitor import MetricsLog, Monitor
from ssl_parts.engine.run_section import Resume, TrainingRunSection
from ssl_parts.engine.start import start_accelerator, supervise_run
from ssl_parts.engine.trackers import plain_settings, start_trackers
from ssl_parts.errors import ConfigError

FLAT = {"train.lr": 0.1, "run.arms": ["instance"], "run.resume": Resume.auto, "train.clip": None}


@pytest.fixture
def wandb(monkeypatch):
    """A package that writes down what it is told."""
    told = SimpleNamespace(init=[], config={}, log=[], finished=0)

    def init(**options):
        told.init.append(options)
        return SimpleNamespace(
            log=lambda values, step=None, **_: told.log.append((step, values)),
            finish=lambda: setattr(told, "finished", told.finished + 1),
        )

    config = SimpleNamespace(update=lambda values, **_: told.config.update(values))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, config=config))
    available = [
        *accelerate.tracking.get_available_trackers(),
        accelerate.tracking.LoggerType.WANDB,
    ]
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", available)
    return told


def section(folder, *trackers):
    return TrainingRunSection("birds/seed_0", str(folder), threads=1, trackers=list(trackers))


def run(folder, *trackers):
    """Two phases of two reports each."""
    AcceleratorState._reset_state(True)
    accelerator = start_accelerator(section(folder, *trackers))
    where = folder / "birds/seed_0"
    with supervise_run(accelerator, where):
        start_trackers(accelerator, where, FLAT)
        for number, name in enumerate(("base", "round 0")):
            log = MetricsLog(folder / "log", enabled=False)
            more = {"steps": 2, "batch": 4, "first_step": 2 * number}
            monitor = Monitor(name, where, log, accelerator, **more)
            for done in (1, 2):
                monitor.write(done, {"loss": 1.0 / done})


def test_a_tracker_of_projects_gets_project_name_settings_and_rising_steps(tmp_path, wandb):
    run(tmp_path, "wandb")
    assert wandb.init == [{"project": "ssl-parts", "name": "birds/seed_0"}]
    assert wandb.config == {
        "train.lr": 0.1,
        "run.arms": "['instance']",
        "run.resume": "Resume.auto",
        "train.clip": None,
    }
    assert wandb.log == [
        (1, {"base/loss": 1.0}),
        (2, {"base/loss": 0.5}),
        (3, {"round 0/loss": 1.0}),
        (4, {"round 0/loss": 0.5}),
    ]
    assert wandb.finished == 1
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_is_in_the_runs_folder_and_hears_the_settings_once(tmp_path, wandb):
    for _ in range(2):
        run(tmp_path, "tensorboard", "wandb")
    folder = tmp_path / "birds/seed_0/tensorboard"
    assert [path.name for path in folder.parent.iterdir()] == ["tensorboard"]
    assert len(list(folder.glob("*/hparams.yml"))) == 1
    assert len(wandb.init) == 2
    events = EventAccumulator(str(folder)).Reload()
    assert {event.step for event in events.Scalars("round 0/loss")} == {3, 4}


def test_a_tracker_that_does_not_exist_is_named(tmp_path):
    for name, message in (
        ("tensorbord", r"'tensorbord' is not a tracker.*did you mean 'tensorboard'"),
        ("wandb", r"wandb needs a package that is not installed"),
    ):
        if name in [str(found) for found in accelerate.tracking.get_available_trackers()]:
            continue
        with pytest.raises(ConfigError, match=message):
            start_accelerator(section(tmp_path, name))


def test_settings_are_numbers_texts_and_none():
    kept = plain_settings({"a": 1, "b": True, "c": None, "d": "x", "e": [1, 2], "f": {}})
    assert kept == {"a": 1, "b": True, "c": None, "d": "x", "e": "[1, 2]", "f": "{}"}
