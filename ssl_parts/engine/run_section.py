"""The `run` part of a configuration that every command with a run folder has.

Imports no torch: schemas are read before anything heavy is.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError

LARGEST_SEED = 2**32 - 1


class Resume(Enum):
    # continue the run of this name if its configuration is the same, else say what differs
    auto = "auto"
    never = "never"  # refuse a folder that exists


class Precision(Enum):
    auto = "auto"  # bf16 on GPUs and on CPUs that multiply it in hardware, fp32 elsewhere
    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class RunSection:
    """Where a run lives and how its processes work."""

    name: str = "run"
    dir: str = "runs"
    seed: int = bounded(0, at_least=0, at_most=LARGEST_SEED)
    # threads of each process; null: the cores of this machine / the processes on it
    threads: int | None = bounded(None, at_least=1)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_run_name(self.name)
        check_bounds("run", self)

    @property
    def folder(self) -> Path:
        """The run folder, `dir`/`name`."""
        return Path(self.dir) / self.name


@dataclass
class TrainingRunSection(RunSection):
    """A run that trains."""

    resume: Resume = Resume.auto
    precision: Precision = Precision.auto
    # how long processes wait for each other before they give up
    timeout_minutes: float = bounded(120.0, above=0)
    trackers: list[str] = field(default_factory=list)  # of accelerate, as tensorboard; [] for none


def check_run_name(name: str) -> None:
    """Raise ConfigError unless `name` is a folder below run.dir."""
    if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", name) or ".." in name:
        raise ConfigError(
            f"run.name={name!r}: use letters, digits, '_', '-', '.' and '/' for a folder under "
            "run.dir"
        )
