"""A run on disk: one folder, its configuration, what it ran on, and whether it may be continued."""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from ssl_parts.configuration.compose import flatten, to_yaml
from ssl_parts.engine.run_section import Resume, TrainingRunSection
from ssl_parts.errors import ConfigError
from ssl_parts.files import write_atomic

SPEED_ONLY = {
    "run.resume", "run.threads", "run.pictures", "run.trackers", "run.timeout_minutes", "train.keep_checkpoints",
    "train.keep_every", "train.watch_every", "data.cache", "data.cache_dir", "data.on_device",
}  # fmt: skip
MEASURES_ONLY = {"run.evaluate", "data.on_bad_image"}  # and all of `evaluation`
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "kornia",
    "faiss-cpu",
    "accelerate",
    "numpy",
    "scikit-learn",
)


class RunConfiguration(Protocol):
    """A configuration with a run section, as all that train have."""

    @property
    def run(self) -> TrainingRunSection:
        """The run section."""
        ...


def run_folder(config: RunConfiguration) -> Path:
    """Find where the run is or will be; nothing is written.

    What changes speed or measurements only may differ from the run's first start.

    Raises:
        ConfigError: the folder belongs to a run with another configuration (the difference is
            printed), or exists although run.resume=never.
    """
    folder = config.run.folder
    saved = folder / "config.yaml"
    if saved.exists():
        if config.run.resume is Resume.never:
            raise ConfigError(
                f"{folder} exists and run.resume=never; choose another run.name or remove the "
                "folder"
            )
        before: Any = OmegaConf.to_container(OmegaConf.load(saved))
        difference = _difference(flatten(before), flatten(config))
        if difference:
            raise ConfigError(
                f"{folder} was made with another configuration:\n{difference}\nThe same "
                "configuration continues it; another run.name starts a new run"
            )
    return folder


def record_run(folder: Path, config: RunConfiguration) -> None:
    """Write config.yaml and environment.json of a new run, and config.yaml again where what may
    differ has changed.

    Call it after everything that can be wrong was checked.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved, text = folder / "config.yaml", to_yaml(config)
        if not saved.exists():
            write_atomic(folder / "environment.json", json.dumps(environment(), indent=1))
        if not saved.exists() or saved.read_text() != text:
            write_atomic(saved, text)
    except OSError as error:
        raise ConfigError(
            f"the run's folder {folder} cannot be written: {error}; change run.dir"
        ) from error


def environment() -> dict[str, Any]:
    """Describe what a result depends on beside the configuration."""
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "cuda": cuda,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": commit(),
    }


def commit() -> str | None:
    """Name the commit of this code, with '+' where the tree had changes; None outside a checkout.

    An installed package may lie below a checkout of something else, whose commit says nothing.
    """
    here = Path(__file__).resolve().parent
    asked = [
        ["git", "ls-files", "--error-unmatch", Path(__file__).name],
        ["git", "rev-parse", "--short=12", "HEAD"],
        ["git", "status", "--porcelain", "--untracked-files=no"],
    ]
    try:
        _, head, changes = (
            subprocess.run(
                c, cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout
            for c in asked
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    rows = []
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key, "(not there)"), now.get(key, "(not there)")
        if (
            old != new
            and key not in SPEED_ONLY | MEASURES_ONLY
            and not key.startswith("evaluation.")
        ):
            rows.append(f"  {key}: {old} -> {new}")
    return "\n".join(rows)
