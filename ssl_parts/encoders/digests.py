"""Flipped bits are noticed: digests of what an export or a run has written, compared on reading.

An export's mark lists the SHA-256 of each of its files. A safetensors file of a run carries the
hash of its tensors in its own header, under `SEAL`; timm, transformers and safetensors ignore it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ssl_parts.encoders.documents import read_json
from ssl_parts.encoders.provenance import tensors_hash
from ssl_parts.errors import WeightsError

MARK = "ssl_parts_export.json"  # in every export: what it is, and the files it wrote
SEAL = "ssl_parts.sha256"  # metadata of a safetensors file


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as sha256sum prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed_digests(folder: Path) -> dict[str, str]:
    """Name and digest of each file that an export wrote; {} for another folder.

    Raises:
        WeightsError: a mark that cannot be read.
    """
    if not (folder / MARK).is_file():
        return {}
    files = read_json(folder / MARK).get("files")
    return (
        {str(name): str(digest) for name, digest in files.items()}
        if isinstance(files, dict)
        else {}
    )


def verify_export(folder: Path, *names: str) -> None:
    """Compare files of an export with its mark; names that the mark does not list pass.

    Raises:
        WeightsError: a file that is not what was exported.
    """
    listed = listed_digests(folder)
    for name in names:
        path = folder / name
        if name in listed and path.is_file() and file_digest(path) != listed[name]:
            raise WeightsError(
                f"{path} is not what was exported (its SHA-256 differs from {MARK}): copy or export "
                f"it again, or remove {folder / MARK} if you changed the file on purpose"
            )


def seal(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Metadata for a safetensors file of these tensors, with which `verify_seal` knows them."""
    return {"format": "pt", SEAL: tensors_hash(tensors)}


def save_sealed(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with their seal; the same tensors give the same bytes."""
    save_file(dict(tensors), path, metadata=seal(tensors))
    order_metadata(path)


def order_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file in place: the library writes it in any order."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same entries in another order"
        file.seek(8)
        file.write(text.ljust(length))


def verify_seal(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None
) -> None:
    """Compare tensors with the seal of their file; a file without one passes.

    Raises:
        WeightsError: other names, types, shapes or bits than were written.
    """
    sealed = (metadata or {}).get(SEAL)
    if sealed is not None and sealed != tensors_hash(tensors):
        raise WeightsError(
            f"{path} is damaged: its tensors are not those that were written. Copy it again, or "
            "remove it and start the command that made it"
        )
