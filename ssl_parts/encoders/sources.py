"""Where an encoder of ours is kept: a run directory, one of its checkpoints, or an export; and how
to open it.

RUN/config.yaml   RUN/export/{model.safetensors,config.json}
RUN/round_000/encoder.safetensors                                       the encoder a finished round ended with
RUN/round_000/checkpoints/step_000500/{student,teacher}.safetensors     RUN/round_000/checkpoints/last names the newest
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_parts.errors import WeightsError

EXPORTED = "model.safetensors"  # in an export
STATE_DICT = "model.pth"  # in an export to=state_dict
FINISHED = "encoder.safetensors"  # in a round that is over
COPIES = ("student", "teacher")


@dataclass(frozen=True)
class Located:
    """The file that holds the tensors, and what the folder around it says about the network.

    architecture, model_args, mean, std: from an export's config.json. settings: the `encoder:`
    node of a run's config.yaml. run: the run directory. Each is None or empty where the folder
    does not say.
    """

    weights: Path
    architecture: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    mean: list[float] | None = None
    std: list[float] | None = None
    settings: dict[str, Any] | None = None
    run: Path | None = None


def locate(path: Path, which: str = "best") -> Located:
    """Find the weights behind a path.

    Args:
        path: a file, a run directory, a round, a checkpoint, or an export.
        which: "best" takes what the run made last: the newest finished round, else its export,
            else the student of the newest checkpoint. "student" and "teacher" take that copy from
            the newest checkpoint.

    Raises:
        WeightsError: nothing there, or a folder of another kind; the message says what was looked
            for.
    """
    if which not in ("best", *COPIES):
        raise WeightsError(f"which={which!r} is not one of best, {', '.join(COPIES)}")
    if path.is_file():
        return _in_run(path)
    for name in (EXPORTED, STATE_DICT):
        if (path / name).is_file() and (path / "config.json").is_file():
            return _exported(path / name)
    finished = _finished(path) if which == "best" else None
    if finished is not None:
        return _in_run(finished)
    if which == "best" and (path / "export" / EXPORTED).is_file():
        return _exported(path / "export" / EXPORTED, run=path)
    copy = "student" if which == "best" else which
    checkpoint = newest_checkpoint(path)
    if checkpoint is None:
        raise WeightsError(
            f"{path} holds no weights: looked for {EXPORTED}, {FINISHED}, round_*/{FINISHED}, export/{EXPORTED} and "
            f"round_*/checkpoints/step_*/{copy}.safetensors; give a file, a run directory, a checkpoint or an export"
        )
    if not (checkpoint / f"{copy}.safetensors").is_file():
        raise WeightsError(
            f"{checkpoint} lacks {copy}.safetensors: the checkpoint is not whole, use the one before"
        )
    return _in_run(checkpoint / f"{copy}.safetensors")


def _finished(path: Path) -> Path | None:
    """The encoder that a round, or the last finished round of a run, ended with."""
    found = [path / FINISHED, *sorted(path.glob(f"round_*/{FINISHED}"), reverse=True)]
    return next((file for file in found if file.is_file()), None)


def _in_run(weights: Path) -> Located:
    """A file of tensors, with the settings of the run it lies in, if it lies in one."""
    run = next(
        (folder for folder in weights.resolve().parents[:4] if (folder / "config.yaml").is_file()),
        None,
    )
    return Located(weights, settings=_settings(run), run=run)


def newest_checkpoint(path: Path) -> Path | None:
    """The folder with the newest student and teacher under a run, a round or a `checkpoints`
    folder.
    """
    if any((path / f"{copy}.safetensors").is_file() for copy in COPIES):
        return path
    for folder in [
        path,
        path / "checkpoints",
        *sorted(path.glob("round_*/checkpoints"), reverse=True),
    ]:
        last = folder / "last"
        if last.is_file() and (folder / last.read_text().strip()).is_dir():
            return folder / last.read_text().strip()
        steps = [last] if last.is_dir() else sorted(folder.glob("step_[0-9]*"))
        if steps:
            return steps[-1]
    return None


def _exported(weights: Path, run: Path | None = None) -> Located:
    config = weights.parent / "config.json"
    try:
        content = json.loads(config.read_text())
        about = content.get("pretrained_cfg", {})
        return Located(
            weights,
            architecture=content["architecture"],
            model_args=dict(content.get("model_args", {})),
            mean=about.get("mean"),
            std=about.get("std"),
            run=run,
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{config} is not the config.json of an export: {error!r}") from error


def _settings(run: Path | None) -> dict[str, Any] | None:
    if run is None:
        return None
    try:
        node = OmegaConf.load(run / "config.yaml").get("encoder")
    except (OmegaConfBaseException, OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{run / 'config.yaml'} cannot be read: {error}") from error
    return None if node is None else OmegaConf.to_container(node)
