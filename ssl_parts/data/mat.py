"""Annotations in MATLAB files: numbers, text and plain structures only. Nothing in a file is ever executed: scipy reads
values, and whatever is an object, a function handle or HDF5 is refused.
"""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatlabFunction, MatlabOpaque

from ssl_parts.errors import DataError

MAX_BYTES = 64 << 20


def read_mat(path: Path, *names: str) -> list[np.ndarray]:
    """These variables of a .mat file (version 4 to 7), singleton dimensions squeezed, at least one-dimensional.

    Raises:
        DataError: unreadable or damaged file, no such variable, one that is no plain data, a file above 64 MiB.
    """
    try:
        size = path.stat().st_size
        found = loadmat(path, squeeze_me=True, variable_names=list(names)) if size <= MAX_BYTES else {}
    except NotImplementedError as error:
        raise DataError(f"{path} is a MATLAB 7.3 file (HDF5); save it again with -v7") from error
    except Exception as error:  # scipy raises nearly anything on damage
        raise DataError(f"{path}: cannot read this .mat file ({type(error).__name__}: {error})") from error
    if size > MAX_BYTES:
        raise DataError(f"{path} has {size >> 20} MiB; annotations are far smaller, so it is damaged or something else")
    values = []
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no variable {name!r}")
        values.append(np.atleast_1d(found[name]))
        _require_plain(values[-1], f"{path}: {name}", depth=0)
    return values


def _require_plain(value: object, where: str, depth: int) -> None:
    if isinstance(value, MatlabFunction | MatlabOpaque) or depth > 6:
        raise DataError(f"{where} holds a MATLAB object or function; only numbers, text and structures are read")
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        items = [value[field] for field in value.dtype.names] if value.dtype.names else value.flat
        for item in items:
            _require_plain(item, where, depth + 1)
    elif isinstance(value, np.void) and value.dtype.names:
        for field in value.dtype.names:
            _require_plain(value[field], where, depth + 1)
