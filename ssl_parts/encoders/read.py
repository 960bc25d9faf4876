"""Open a file of weights without running anything it holds, by its content and not by its name."""

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ssl_parts.encoders.digests import verify_seal
from ssl_parts.encoders.documents import read_json
from ssl_parts.encoders.pickles import HostileError, Inert, Name, Reader, Storage, settle
from ssl_parts.errors import WeightsError

# a compressed file may unfold to this many times its size, no archive of weights does
INFLATION = 64
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of torch.save before version 1.6
SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(\.[a-z]+)")  # model-00001-of-00003.safetensors
AGAIN = "copy or download it again"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The (nested) dictionary of tensors in a file, on the CPU.

    Reads torch.save's files (old and new), safetensors, .npz, .npy and plain pickles under any
    name; of a sharded checkpoint its index (*.index.json) or any of its shards.

    Raises:
        WeightsError: no such file, another kind of file (the message says which and what to do), a
            damaged one, or one that was made to run code. Nothing in a file is ever run.
    """
    if not path.is_file():
        raise WeightsError(f"encoder.weights={path} is not a file")
    if path.name.endswith(".index.json"):
        return _read_index(path)
    shards = _shards_of(path)
    content = _merge(shards) if shards else _read_one(path)
    if isinstance(content, Inert):
        content = module_state(content)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file that this project wrote, compared with its seal.

    Raises:
        WeightsError: missing, damaged, or other tensors than were written.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    return _guarded(_read_safetensors, path, "safetensors file")


def module_state(module: Inert) -> Any:
    """The state dict of a network that was pickled whole, its classes unknown: names as torch's.

    Anything but a network is given back as it is.
    """
    if not isinstance(module.state, dict) or "_modules" not in module.state:
        return module
    found: dict[str, Tensor] = {}
    pending: list[tuple[str, Inert]] = [("", module)]
    seen: set[int] = set()
    while pending:
        prefix, owner = pending.pop()
        state = owner.state if isinstance(owner.state, dict) else {}
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for kind in ("_parameters", "_buffers"):
            own = state.get(kind) or {}
            found |= {prefix + str(k): v for k, v in own.items() if isinstance(v, Tensor)}
        children = state.get("_modules") or {}
        pending += [(f"{prefix}{k}.", v) for k, v in children.items() if isinstance(v, Inert)]
    return found


# ---------------------------------------------------------------- which kind of file


def _read_one(path: Path) -> Any:
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsError(f"{path} is empty; {AGAIN}")
    if head[:4] == b"PK\x03\x04":
        return _guarded(_read_zip, path, "PyTorch checkpoint")
    if head[:6] == b"\x93NUMPY":
        return _guarded(_read_npy, path, ".npy")
    if _is_safetensors(path, head):
        return _guarded(_read_safetensors, path, "safetensors file")
    if head[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle"):
        return _guarded(_read_pickle, path, "PyTorch checkpoint")
    raise WeightsError(f"{path} {_other_kind(path, head)}")


def _is_safetensors(path: Path, head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


_MAGIC = {
    b"\x1f\x8b": "is compressed (gzip): unpack it with gunzip and give the file inside",
    b"BZh": "is compressed (bzip2): unpack it with bunzip2 and give the file inside",
    b"\xfd7zXZ": "is compressed (xz): unpack it with unxz and give the file inside",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd): unpack it with unzstd and give the file inside",
    b"\x89HDF": "is an HDF5 file of Keras or TensorFlow; give the PyTorch weights of this network",
    b"PK\x05\x06": f"is an empty archive; {AGAIN}",
}


def _other_kind(path: Path, head: bytes) -> str:
    """What a file is that holds no weights that are read, and what to do."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: fetch them with `git lfs pull` in its clone"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body", b"<error")):
        return (
            "is a web page, not weights (often of a log-in or an error): download the file itself"
        )
    for magic, said in _MAGIC.items():
        if head.startswith(magic):
            return said
    if head[257:262] == b"ustar":
        return f"is a tar archive: unpack it with `tar xf '{path}'` and give the file inside"
    if path.suffix.lower() == ".onnx":
        return "is an ONNX graph, which cannot be trained on; give the PyTorch weights it came from"
    if path.suffix.lower() in (".msgpack", ".h5", ".tflite", ".pb", ".index"):
        return f"is a {path.suffix} file of another framework; give the PyTorch weights"
    if path.suffix.lower() == ".safetensors":
        return f"is not a whole safetensors file: it is truncated or of another kind; {AGAIN}"
    return (
        f"cannot be read as a PyTorch checkpoint: it starts with {head[:12]!r}, so it is truncated "
        f"or of another kind; {AGAIN}"
    )


def _guarded(read: Callable[[Path], Any], path: Path, kind: str) -> Any:
    """The reader's value, or one sentence: broken bytes can raise nearly any class."""
    try:
        return read(path)
    except WeightsError:
        raise
    except HostileError as error:
        raise WeightsError(
            f"{path} holds Python objects beside its tensors ({error}), which run code when they "
            "are unpickled. Nothing was run. No checkpoint needs that: do not use this file"
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise WeightsError(
            f"{path} cannot be read as a {kind} ({type(error).__name__}: {reason}); it is truncated, "
            f"damaged or of another kind: {AGAIN}"
        ) from error


# ---------------------------------------------------------------- safetensors, numpy


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    verify_seal(path, tensors, metadata)
    return tensors


def _read_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for member in archive.infolist():
        with archive.open(member) as file:
            array = _numbers(file, member.file_size)
        if array is not None:
            found[member.filename.removesuffix(".npy")] = array
    return found


def _numbers(file: IO[bytes], size: int) -> Tensor | None:
    """An array of plain numbers; None for texts and objects."""
    shape, fortran, dtype = _npy_header(file)
    if dtype.kind not in "fiub":
        return None
    count = int(np.prod(shape, dtype=object))
    if not 0 <= count * dtype.itemsize <= size:
        raise ValueError(f"an array of shape {shape} in {size} bytes")
    flat = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    array = flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))
    return torch.from_numpy(np.array(array, order="C"))


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    return read(file)


def _read_npy(path: Path) -> Any:
    """DeepMind's layout: one pickled {module: {name: array}} inside an array of Python objects."""
    file = io.BytesIO(path.read_bytes())
    if not _npy_header(file)[2].hasobject:
        raise WeightsError(f"{path} is a bare array, not a dictionary of tensors")
    return settle(Reader(file).load())


# ---------------------------------------------------------------- torch.save


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        _check_members(path, archive)
        pickled = next((n for n in names if n == "data.pkl" or n.endswith("/data.pkl")), None)
        if any(n.endswith("constants.pkl") or "/code/" in n for n in names):
            raise WeightsError(
                f"{path} is a TorchScript archive, a program and not weights. Where you trust it: "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth'), and give weights.pth"
            )
        if pickled is not None:
            return _read_torch(archive, pickled.removesuffix("data.pkl"))
        if names and all(n.endswith(".npy") for n in names):
            return _read_npz(path, archive)
    shown = ", ".join(names[:3]) or "nothing"
    raise WeightsError(f"{path} is an archive of {shown}: unpack it and give the file of weights")


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    unfolded = sum(member.file_size for member in members)
    if unfolded > INFLATION * path.stat().st_size:
        raise ValueError(f"it would unfold to {unfolded >> 20} MB")
    if not any(member.CRC for member in members):  # torch.serialization.set_crc32_options(False)
        for member in members:
            del member.CRC  # which makes zipfile compare none


def _read_torch(archive: zipfile.ZipFile, prefix: str) -> Any:
    names = set(archive.namelist())
    if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") == b"big":
        raise ValueError("written on a machine of the other byte order: save it again on this kind")
    kept: dict[str, Storage] = {}

    def find(kind: Any, key: Any, _: Any, count: Any, *__: Any) -> Storage:
        if key not in kept:
            member = archive.getinfo(f"{prefix}data/{key}")
            data = bytearray(member.file_size)
            with archive.open(member) as file:
                _fill(file, data)
                file.read(1)  # its end, where the checksum is compared
            kept[key] = Storage(data, _number_type(kind))
        _check_count(kept[key], count)
        return kept[key]

    return settle(Reader(io.BytesIO(archive.read(f"{prefix}data.pkl")), find).load())


def _read_pickle(path: Path) -> Any:
    """torch.save's format before version 1.6, or a plain pickle of arrays."""
    size = path.stat().st_size
    with open(path, "rb") as whole:
        file = io.BytesIO(whole.read())
    content = Reader(file, _no_storage).load()
    if content != LEGACY_MAGIC:
        return settle(content)
    _, system = Reader(file).load(), Reader(file).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise ValueError("written on a machine of the other byte order: save it again on this kind")
    kept: dict[str, Storage] = {}

    def find(kind: Any, key: Any, _: Any, count: Any, view: Any = None) -> Storage:
        if key not in kept:
            dtype = _number_type(kind)
            length = count * (dtype.itemsize if dtype else 1)
            claimed = length + sum(len(storage.data) for storage in kept.values())
            if length < 0 or claimed > size:
                raise ValueError(f"a storage of {length} bytes in a file of {size}")
            kept[key] = Storage(bytearray(length), dtype)
        return kept[key] if view is None else _part_of(kept[key], view)

    content = Reader(file, find).load()
    for key in Reader(file).load():
        count = int.from_bytes(file.read(8), "little")
        _check_count(kept[key], count)
        _fill(file, kept[key].data)
    return settle(content)


def _part_of(storage: Storage, view: Any) -> Storage:
    """Very old files cut one storage into several; such a part would need the bytes beforehand."""
    raise ValueError(f"a storage in parts ({view!r}), as torch.save wrote it before 0.4")


def _no_storage(*_: Any) -> Storage:
    raise ValueError("tensors without their bytes")


def _number_type(kind: Any) -> torch.dtype | None:
    """The type of a storage class's numbers: torch.HalfStorage; None for untyped bytes."""
    name = kind.path.rpartition(".")[2] if isinstance(kind, Name) else ""
    if name == "UntypedStorage":
        return None
    dtype = _STORAGES.get(name)
    if dtype is None:
        raise ValueError(f"numbers of an unknown type ({name or kind!r})")
    return dtype


_STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


def _check_count(storage: Storage, count: Any) -> None:
    width = 1 if storage.dtype is None else storage.dtype.itemsize
    if not isinstance(count, int) or count * width != len(storage.data):
        raise ValueError(f"{len(storage.data)} bytes where {count} numbers should be")


def _fill(file: IO[bytes], data: bytearray) -> None:
    view, done = memoryview(data), 0
    while done < len(data):
        part = file.read(min(len(data) - done, 2**24))
        if not part:
            raise EOFError(f"{done} of {len(data)} bytes are there")
        view[done : done + len(part)] = part
        done += len(part)


# ---------------------------------------------------------------- checkpoints in shards


def _read_index(path: Path) -> dict[str, Tensor]:
    """model.safetensors.index.json or pytorch_model.bin.index.json and the shards it names."""
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise WeightsError(f"{path} is no index of a sharded checkpoint: it has no weight_map")
    names = sorted({str(name) for name in table.values()})
    foreign = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if foreign:
        raise WeightsError(
            f"{path} names a file outside its folder ({foreign[0]!r}): it is not read"
        )
    found = _merge([path.parent / name for name in names])
    lost = [name for name in table if name not in found]
    if lost:
        raise WeightsError(
            f"the shards beside {path} lack {len(lost)} tensors ({lost[0]}, ...); {AGAIN}"
        )
    return {str(name): found[name] for name in table}


def _shards_of(path: Path) -> list[Path]:
    """All shards of which this file is one; [] for a file of its own."""
    match = SHARD.fullmatch(path.name)
    if match is None or int(match[3]) < 2:
        return []
    digits, count = len(match[2]), int(match[3])
    if count > 10_000:
        raise WeightsError(f"{path} says it is one of {count} shards, which cannot be")
    names = [f"{match[1]}-{i:0{digits}d}-of-{match[3]}{match[4]}" for i in range(1, count + 1)]
    return [path.with_name(name) for name in names]


def _merge(shards: list[Path]) -> dict[str, Any]:
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise WeightsError(
            f"{shards[0].parent} lacks {len(missing)} of {len(shards)} shards ({shown}): download "
            "them into the same folder"
        )
    whole: dict[str, Any] = {}
    for shard in shards:
        content = _read_one(shard)
        if not isinstance(content, dict):
            raise WeightsError(f"{shard} holds a {type(content).__name__}, not tensors")
        whole |= content
    return whole
