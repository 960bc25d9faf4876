"""Indices of large sets, kept between runs: reading a million names from a cluster's file system
takes minutes.

They live in SSL_PARTS_CACHE, or in ssl_parts/ of the user's cache folder. An index that cannot be
written is made again next time; one that is damaged counts as absent.
"""

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


def cache_home() -> Path:
    """The folder for what can be made again.

    SSL_PARTS_CACHE, else ssl_parts/ in the user's cache folder; for a user without a home, as in
    some containers, below the temporary folder.
    """
    chosen = os.environ.get("SSL_PARTS_CACHE")
    return Path(chosen) if chosen else _user_cache() / "ssl_parts"


def _user_cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor a line in the list of users
        return Path(tempfile.gettempdir())


def index_file(kind: str, key: str) -> Path:
    """Where the index of this kind and key is kept."""
    return (
        cache_home()
        / f"{kind}-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:24]}.npz"
    )


def load_index(file: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an index; None where it is absent or damaged. Never unpickles."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # a zip or header cut short raises nearly anything
        if file.exists():
            log.warning("index %s is damaged (%s) and is made again", file, error)
        return None


def save_index(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Atomic; only logs where the folder cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            named: dict[str, Any] = {**arrays}  # numpy's keywords are names of arrays
            np.savez(stream, **named)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        log.warning(
            "the index cannot be kept at %s (%s); set SSL_PARTS_CACHE to a folder that can be written",
            file,
            error,
        )


def pack_names(names: list[str]) -> np.ndarray:
    """Names as uint8, for an array file without pickled objects."""
    return np.frombuffer("\0".join(names).encode(errors="surrogateescape"), dtype=np.uint8)


def unpack_names(packed: np.ndarray) -> list[str]:
    text = packed.tobytes().decode(errors="surrogateescape")
    return text.split("\0") if text else []
