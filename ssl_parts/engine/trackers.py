"""Trackers of accelerate: under which names a run appears in each, and what they are told."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    get_available_trackers,
)

from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.engine.run_section import TrainingRunSection
from ssl_parts.errors import ConfigError

PROJECT = "ssl-parts"  # what trackers that group runs group them by
TENSORBOARD = "tensorboard"  # a folder below the run's
NAME_OPTION = {  # how a tracker takes the name of a run beside that of its project
    "wandb": "name",
    "trackio": "name",
    "swanlab": "experiment_name",
    "mlflow": "run_name",
}
Settings = dict[str, bool | int | float | str | None]


def make_trackers(run: TrainingRunSection) -> list[GeneralTracker]:
    """Make the trackers that `run.trackers` names; none is started.

    TensorBoard writes to the folder tensorboard of the run. Others find the run by its name in the
    project "ssl-parts".

    Raises:
        ConfigError: a name that accelerate does not know, or whose package is not installed.
    """
    return [make_tracker(name, run) for name in dict.fromkeys(run.trackers)]


def make_tracker(name: str, run: TrainingRunSection) -> GeneralTracker:
    """Make one tracker; see `make_trackers`."""
    if name not in LOGGER_TYPE_TO_CLASS:
        known = sorted(LOGGER_TYPE_TO_CLASS)
        raise ConfigError(
            f"run.trackers: {name!r} is not a tracker of accelerate{did_you_mean(name, known)}; "
            f"there are: {', '.join(known)}"
        )
    if name not in [str(available) for available in get_available_trackers()]:
        raise ConfigError(
            f"run.trackers: {name} needs a package that is not installed; install {name}, or leave "
            "it out of run.trackers"
        )
    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    options = {NAME_OPTION[name]: run.name} if name in NAME_OPTION else {}
    if kind.requires_logging_directory:
        return kind(TENSORBOARD if name == TENSORBOARD else run.name, run.folder, **options)
    return kind(PROJECT, **options)


def start_trackers(accelerator: Accelerator, folder: Path, flat: dict[str, Any]) -> None:
    """Start the trackers of an accelerator and tell them the configuration.

    Args:
        accelerator: as `start_accelerator` made it.
        folder: of the run.
        flat: the configuration as {"train.lr": 0.1, ...}. A run that continues does not tell
            TensorBoard again, which would list it as another run.
    """
    if not accelerator.log_with:
        return
    told = any((folder / TENSORBOARD).glob("*/hparams.yml"))
    accelerator.init_trackers(PROJECT)
    for tracker in accelerator.trackers:
        if tracker.name != TENSORBOARD or not told:
            tracker.store_init_configuration(plain_settings(flat))


def plain_settings(flat: dict[str, Any]) -> Settings:
    """Turn every value that trackers do not take (lists, enums, mappings) into text."""
    plain = (bool, int, float, str, type(None))
    return {key: value if isinstance(value, plain) else str(value) for key, value in flat.items()}
