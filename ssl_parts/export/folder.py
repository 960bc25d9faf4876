"""A folder that appears whole or not at all, and keeps what others have put into it.

The mark of an export lists what it wrote, with digests. Written again, that alone is replaced;
notes, a .git folder and whatever else lies there stay, and a file that was edited is kept beside
the new one.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ssl_parts.encoders.digests import MARK, file_digest, listed_digests
from ssl_parts.errors import ConfigError, WeightsError

log = logging.getLogger(__name__)

# What exports wrote before their mark listed it.
UNLISTED = re.compile(
    r"README\.md|config\.json|model\.(safetensors|pth|onnx)|parts/part_model\.\w+|parts/encoder/\w+\.\w+"
)


@contextmanager
def new_folder(out: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary sibling to write into; it takes the name `out` when the block ends well and
    vanishes otherwise.

    Args:
        out: the folder to be. An export that is there is replaced, the files of others in it stay.
        about: what the mark says of the export, beside the files and their digests.

    Raises:
        ConfigError: `out` is a file, a folder with something in it that is no export of ours, or
            cannot be written.
    """
    out = Path(os.path.realpath(out))
    with _one_sentence(out):
        _tidy(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        raise ConfigError(
            f"out={out} is there already and is not an export, so it is not replaced; choose another name"
        )
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with _one_sentence(out):
            work.mkdir(parents=True)
            yield work
            _seal(work, about)
            _carry_over(out, work)
            _take_place(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was before."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _one_sentence(out: Path) -> Iterator[None]:
    """A full or read-only disk as a ConfigError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"out={out} cannot be written: {error}. What was there before is untouched; free some disk or choose "
            "another folder"
        ) from error


# ---------------------------------------------------------------- finish the new folder


def _seal(work: Path, about: Mapping[str, Any]) -> None:
    """Usual permissions for every file, the mark with their digests, everything on the disk."""
    files = sorted(path for path in work.rglob("*") if path.is_file())
    listed = {path.relative_to(work).as_posix(): file_digest(path) for path in files}
    (work / MARK).write_text(
        json.dumps({**about, "files": listed}, indent=1) + "\n", encoding="utf-8"
    )
    mask = os.umask(0)
    os.umask(mask)
    for path in [*files, work / MARK]:
        path.chmod(0o666 & ~mask)  # safetensors makes files that only their owner may read
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _carry_over(out: Path, work: Path) -> None:
    """Everything in `out` that the earlier export did not write, linked into the new folder."""
    if not out.is_dir():
        return
    listed = _listed(out)
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(other.startswith(f"{name}/") for other in listed):
                (work / name).mkdir(parents=True, exist_ok=True)
        elif name != MARK and not (name in listed and _unchanged(path, listed[name])):
            place = _free_place(work, name)
            if place.name != path.name:
                log.warning(
                    "%s was changed since it was exported: it is kept as %s",
                    path,
                    out / place.relative_to(work),
                )
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(path, place)


def _listed(out: Path) -> dict[str, str | None]:
    """Files that the export in `out` wrote; None for a digest that its mark does not say."""
    try:
        listed = listed_digests(out)
    except WeightsError:  # a damaged mark: whatever it was, nothing is lost
        listed = {}
    if listed:
        return dict(listed)
    names = (path.relative_to(out).as_posix() for path in out.rglob("*"))
    return {name: None for name in names if UNLISTED.fullmatch(name)}


def _unchanged(path: Path, digest: str | None) -> bool:
    return path.is_file() and (digest is None or file_digest(path) == digest)


def _free_place(work: Path, name: str) -> Path:
    """The name itself, or README.before.md, README.before2.md, ... where the new export has it."""
    place, number = work / name, 1
    while place.exists() or place.is_symlink():
        word = "before" if number == 1 else f"before{number}"
        place, number = (
            (work / name).with_name(f"{Path(name).stem}.{word}{Path(name).suffix}"),
            number + 1,
        )
    return place


def _link(path: Path, place: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    if path.is_symlink():
        os.symlink(os.readlink(path), place)
        return
    try:
        os.link(path, place)
    except OSError:
        shutil.copy2(path, place)


# ---------------------------------------------------------------- take the place of the old one


def _take_place(work: Path, out: Path) -> None:
    # A folder cannot be replaced in one step: the old one steps aside first and goes when the new
    # one is in place.
    aside = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        os.replace(out, aside)
    try:
        os.replace(work, out)
    except OSError:
        if aside.exists():
            os.replace(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _tidy(out: Path) -> None:
    """What processes left that were killed here: an old folder that stepped aside comes back, half
    a new one goes.
    """
    for left in sorted(out.parent.glob(f".{_escaped(out.name)}.*")):
        match = re.fullmatch(r"\.(\d+)\.(old|tmp)", left.name.removeprefix(f".{out.name}"))
        if match is None or _alive(int(match[1])):
            continue
        if match[2] == "old" and not out.exists():
            os.replace(left, out)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
