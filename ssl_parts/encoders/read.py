"""Open a file of weights without running anything it holds."""

import argparse
import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl_parts.errors import WeightsError

# Inert classes that published checkpoints carry beside their tensors (DINO and iBOT keep their argparse.Namespace).
INERT = [argparse.Namespace, collections.defaultdict, collections.Counter, set]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The (nested) dictionary of tensors in a .pth, .pt, .safetensors or .npz file, on the CPU.

    Raises:
        WeightsError: no such file, an unreadable or truncated one, or one that only code could rebuild. Pickles are
            read by `torch.load(weights_only=True)`, which builds tensors and containers and calls nothing else.
    """
    if not path.is_file():
        raise WeightsError(f"encoder.weights={path} is not a file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty; copy or download it again")
    content = _reader(path)(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return content


def _reader(path: Path) -> Callable[[Path], Any]:
    if path.suffix == ".safetensors":
        return _read_safetensors
    if path.suffix == ".npz":
        return _read_npz
    return _read_torch


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as an .npz of plain arrays: {error}") from error


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except Exception as error:  # torch raises nearly any class on broken bytes; each means the same to the user
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {_first_line(error)}); "
            "it is truncated or another kind of file: copy or download it again"
        ) from error


def _refusal(path: Path, message: str) -> str:
    names = [word.strip(".,:;`'\"") for word in message.replace("\n", " ").split() if "GLOBAL" in message]
    at = next((i for i, word in enumerate(names) if word == "GLOBAL"), None)
    if at is None or at + 1 >= len(names):
        return f"{path} is not a whole PyTorch checkpoint ({_first_line(message)}); copy or download it again"
    return (
        f"{path} holds Python objects beside its tensors ({names[at + 1]}) and is not unpickled, because that could "
        "run code. If you trust its source, re-save the tensors alone: torch.save(checkpoint['state_dict'], NEW_PATH)"
    )


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
