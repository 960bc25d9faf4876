"""A folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_parts.errors import ConfigError

MARK = "ssl_parts_export.json"  # every export carries it; only a folder that does may be replaced


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling to write into; it takes the name `out` when the block ends well and
    vanishes otherwise.

    Raises:
        ConfigError: `out` is a file, or a folder with something in it that is no export of ours.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        raise ConfigError(
            f"out={out} is there already and is not an export, so it is not replaced; choose another name"
        )
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        yield work
        _flush(work)
        _take_place(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take_place(work: Path, out: Path) -> None:
    # A folder cannot be replaced in one step: the old one steps aside first and goes when the new
    # one is in place.
    aside = out.with_name(f".{out.name}.{os.getpid()}.old")
    shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed here
    if out.exists():
        os.replace(out, aside)
    os.replace(work, out)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was before."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
