"""Checkpoints that are there whole or not at all.

    checkpoints/step_000500/   student.safetensors  teacher.safetensors  objective.safetensors  optimizer.pt  state.json
    checkpoints/last           text: the name of the newest

A checkpoint is written in a sibling folder, flushed, then renamed. state.json carries the size and
digest of the other files, so a damaged checkpoint is noticed and reported, and the one before it is
taken.
"""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ssl_parts.files import flush, replaced, umask, whole_or_not, write_atomic

log = logging.getLogger(__name__)
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: state dicts by the names of their files.

    step: number of finished steps. objective: queues and centres, {} for most methods. extra: what
    the trainer keeps beside weights.
    """

    step: int
    student: dict[str, torch.Tensor]
    teacher: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    extra: dict[str, Any]
    objective: dict[str, torch.Tensor]


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors by name to a safetensors file, atomically."""
    with replaced(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
            temporary,
        )
        temporary.chmod(0o666 & ~umask())  # safetensors: only their owner may read


def save_checkpoint(
    folder: Path,
    step: int,
    student: dict[str, torch.Tensor],
    teacher: dict[str, torch.Tensor],
    optimizer: dict[str, Any],
    extra: dict[str, Any],
    keep: int = 2,
    keep_every: int | None = None,
    objective: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write `folder/step_NNNNNN` and name it in `last`.

    All but the newest `keep` checkpoints and the multiples of `keep_every` are deleted.

    Args:
        step: number of finished steps.
        student, teacher, optimizer, objective: state dicts; {} for what does not exist.
        extra: anything that goes into JSON.

    Raises:
        TrainingError: the disk is full or not writable; what was there before is untouched.
    """
    final = folder / f"step_{step:06d}"
    work = folder / f".{final.name}.{os.getpid()}.tmp"
    causes = (OSError, SafetensorError, RuntimeError)
    with whole_or_not(final, f"checkpoint of step {step}", work, causes):
        _sweep(folder)
        work.mkdir(parents=True)
        save_tensors(work / "student.safetensors", student)
        save_tensors(work / "teacher.safetensors", teacher)
        save_tensors(work / "objective.safetensors", objective or {})
        torch.save(optimizer, work / "optimizer.pt")
        flush(work / "optimizer.pt")
        files = {p.name: _fingerprint(p) for p in sorted(work.iterdir())}
        write_atomic(
            work / STATE, json.dumps({"step": step, "files": files, "extra": extra}, indent=1)
        )
        shutil.rmtree(final, ignore_errors=True)
        os.replace(work, final)
        write_atomic(folder / "last", final.name)
    for old in _steps(folder)[:-keep]:
        if keep_every is None or int(old.name.removeprefix("step_")) % keep_every:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, or None. A damaged one is reported and skipped."""
    for path in reversed(_steps(folder)):
        problem = _damage(path)
        if problem:
            log.warning(
                "checkpoint %s is damaged (%s): going back to the one before", path, problem
            )
            continue
        state = json.loads((path / STATE).read_text())
        return Checkpoint(
            step=state["step"],
            student=load_file(path / "student.safetensors"),
            teacher=load_file(path / "teacher.safetensors"),
            optimizer=torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu"),
            extra=state["extra"],
            objective=load_file(path / "objective.safetensors"),
        )
    return None


def _sweep(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote here."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _steps(folder: Path) -> list[Path]:
    found = folder.glob("step_[0-9]*") if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def _damage(path: Path) -> str | None:
    try:
        files = json.loads((path / STATE).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{STATE}: {error}"
    for name, (size, digest) in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _fingerprint(path / name) != [size, digest]:
            return f"{name} is not what was written"
    return None


def _fingerprint(path: Path) -> list:
    with open(path, "rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "blake2b").hexdigest()[:32]]
