"""Files that are there whole or not at all: written beside their place, flushed, then renamed.

Imports no torch, so that reading a run needs none; tensors are saved by `engine.checkpoint`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_parts.errors import TrainingError


def temporary_of(path: Path) -> Path:
    """Where `path` is written first: hidden, beside it, and of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it.

    Text is written as UTF-8; a file name in it that is none is written with its bytes as \\udcNN.
    """
    with replaced(path) as temporary, open(temporary, "wb") as file:
        file.write(encoded(data) if isinstance(data, str) else data)


def encoded(text: str) -> bytes:
    """UTF-8 of a text; bytes of file names that are no UTF-8 stand in it as \\udcNN."""
    return text.encode(errors="backslashreplace")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path to write to; flushed and renamed to `path` at the end, removed on errors."""
    temporary = temporary_of(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def umask() -> int:
    """The permissions that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flush(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextmanager
def whole_or_not(
    path: Path,
    what: str,
    work: Path | None = None,
    causes: tuple[type[Exception], ...] = (OSError,),
) -> Iterator[None]:
    """Report a full or read-only disk as one TrainingError; removes the folder `work`.

    Args:
        path: what was to be written. what: its name in the sentence.
        causes: exceptions by which libraries report that a file could not be written.

    Raises:
        TrainingError: in place of any of `causes`; what was at `path` before is untouched.
    """
    try:
        yield
    except causes as error:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        raise TrainingError(
            f"{what} could not be written to {path}: {error}. What was there before is untouched; "
            "free some disk or mend the permissions and start the same command again"
        ) from error
