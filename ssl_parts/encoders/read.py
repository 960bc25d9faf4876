"""Open a file of weights without running anything it holds."""

import argparse
import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl_parts.errors import WeightsError

# Inert classes that published checkpoints carry beside their tensors: DINO and iBOT keep their
# argparse.Namespace, solo-learn an OmegaConf node, VISSL and mmselfsup numpy's numbers. Building
# them runs nothing of the file's choosing.
_scalar = np.float64(0).__reduce__()[0]
INERT: list[Any] = [
    *(
        argparse.Namespace,
        collections.defaultdict,
        collections.Counter,
        set,
        dict,
        list,
        int,
        Any,
        PosixPath,
    ),
    *(np.dtype, np.ndarray, _scalar, (_scalar, "numpy.core.multiarray.scalar")),
    *(
        type(np.dtype(kind))
        for kind in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
    ),
    *(DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode),
]

# What a pickled dictionary of numpy arrays is made of (DeepMind's .npy), under numpy 1's and numpy
# 2's names.
NUMPY_PARTS = {
    (module, name)
    for home in ("numpy.core", "numpy._core")
    for module, name in [(f"{home}.multiarray", "_reconstruct"), (f"{home}.multiarray", "scalar")]
} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("numpy._core.numeric", "_frombuffer"),
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The (nested) dictionary of tensors in a .pth, .pt, .safetensors, .npz or .npy file, on the
    CPU.

    Raises:
        WeightsError: no such file, an unreadable or truncated one, or one that only code could
            rebuild. Pickles are read by `torch.load(weights_only=True)`, which builds tensors and
            containers and calls nothing else.
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
    if path.suffix == ".npy":
        return _read_npy
    return _read_torch


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); copy or download it again"
        ) from error


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as an .npz of plain arrays: {error}") from error


class _NumpyUnpickler(pickle.Unpickler):
    """Builds numpy arrays and containers; the name of anything else ends the reading."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NUMPY_PARTS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")


def _read_npy(path: Path) -> Any:
    """DeepMind's layout: one pickled {module: {name: array}} inside an array of Python objects."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            if not header(file)[2].hasobject:
                raise WeightsError(f"{path} is a bare array, not a dictionary of tensors")
            content = _NumpyUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
    ) as error:
        raise WeightsError(
            f"{path} cannot be read as an .npy: {error}; copy or download it again"
        ) from error
    return _tensors(
        content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    )


def _tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(content))
    return content


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    # torch raises nearly any class on broken bytes; each means the same to the user
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {_first_line(error)}); "
            "it is truncated or another kind of file: copy or download it again"
        ) from error


def _refusal(path: Path, message: str) -> str:
    names = [
        word.strip(".,:;`'\"") for word in message.replace("\n", " ").split() if "GLOBAL" in message
    ]
    at = next((i for i, word in enumerate(names) if word == "GLOBAL"), None)
    if at is None or at + 1 >= len(names):
        return f"{path} is not a whole PyTorch checkpoint ({_first_line(message)}); copy or download it again"
    return (
        f"{path} holds Python objects beside its tensors ({names[at + 1]}) and is not unpickled, because that could "
        "run code. If you trust its source, re-save the tensors alone: torch.save(checkpoint['state_dict'], NEW_PATH)"
    )


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
