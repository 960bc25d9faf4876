"""Read pickled checkpoints without running anything that they name.

A pickle is a program: it names functions and classes and says what to call them with. Here every
name becomes a `Name`, and only the few in `BUILDERS` build something: tensors, arrays of numbers
and plain containers, by functions of this module that check sizes against the bytes that are
there. Any other class becomes an `Inert`, which keeps what it was given and does nothing. Names of
modules that start programs end the reading, since such a file was made to attack.
"""

import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ssl_parts.encoders.pickle_names import BUILTINS, HOSTILE, MAPPINGS

PLAIN_KINDS = "biufc"  # numpy's letters for truth values, whole numbers, floats and complex ones


class HostileError(pickle.UnpicklingError):
    """The file names something that runs code; str() is the name."""


class Inert:
    """Stand-in for an object that the reader does not build.

    Attributes:
        path: the class that the file names.
        state: what the object would have been filled with; None where nothing was said.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.state: Any = None

    def append(self, *_: Any) -> None:
        """Leave out what a list, set or queue of an unknown kind is filled with."""

    extend = add = append


@dataclass(frozen=True)
class Name:
    """A function or class that a file names."""

    path: str

    def build(self, *arguments: Any) -> Any:
        """What calling it gives: the value of its builder, or an `Inert`."""
        if self.path in MAPPINGS:
            return _build_mapping(*arguments)
        if self.path in BUILDERS:
            return BUILDERS[self.path](*arguments)
        return Inert(self.path)


class _Array:
    """A numpy array on its way: numpy's pickles name the class first and fill it afterwards."""

    def __init__(self) -> None:
        self.value: Any = Inert("numpy.ndarray")

    def fill(self, state: Any) -> None:
        """Take (version, shape, dtype, is_fortran, bytes) as numpy writes it."""
        shape, dtype, fortran, raw = tuple(state)[-4:]
        if isinstance(raw, list):  # of objects, each built above already
            self.value = raw[0] if shape == () and len(raw) == 1 else raw
        else:
            self.value = _array_of(raw, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A numpy dtype: its code, and the byte order and fields that are said afterwards."""

    def __init__(self, code: str) -> None:
        self.code, self.order, self.simple = code, "=", True

    def fill(self, state: Any) -> None:
        """Take (version, order, subarray, names, fields, ...) as numpy writes it."""
        self.order = str(state[1])
        self.simple = all(value is None for value in state[2:5])

    def resolve(self) -> np.dtype | None:
        """The dtype of plain numbers; None for objects, strings and dates, which are not read.

        Raises:
            pickle.UnpicklingError: fields inside, with which a file could pass bytes off as
                objects.
        """
        if not self.simple:
            raise pickle.UnpicklingError("a numpy array with fields")
        if self.code[:1] not in PLAIN_KINDS or not (self.code[1:].isdigit() or self.code == "b1"):
            return None
        dtype = np.dtype(self.code)
        ordered = {"<": dtype.newbyteorder("<"), ">": dtype.newbyteorder(">")}
        return ordered.get(self.order, dtype)


@dataclass
class Storage:
    """The bytes of one or more tensors, and the type of their numbers (None: not said here)."""

    data: bytearray
    dtype: torch.dtype | None

    def typed(self, dtype: torch.dtype) -> Tensor:
        """All numbers in a row; whatever does not fill a whole number is left out."""
        count = len(self.data) // dtype.itemsize
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.data, dtype=dtype, count=count)


class Reader(pickle._Unpickler):
    """Unpickle from a file in memory; the Python version, as C's reserves memory that a file
    names.

    Args:
        file: the pickle. storages: finds the bytes behind a persistent id ("storage", type, key,
            location, count); None where the file has none.
    """

    # of Python's own class, which types do not list
    stack: list[Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    # the methods below are found by opcode through a table of the class, not by name
    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], storages: Callable[..., Storage] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """A `Name`, or a number type of torch; HostileError for what could only attack.

        Protocols before 3 use the names of Python 2, as Python itself does.
        """
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        path = f"{module}.{name}"
        if module.partition(".")[0] in HOSTILE or (module == "builtins" and name not in BUILTINS):
            raise HostileError(path)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return Name(path)

    def persistent_load(self, pid: Any) -> Any:
        """The storage behind an id of torch.save."""
        if self._storages is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise pickle.UnpicklingError("an id of an unknown kind")
        return self._storages(*pid[1:])

    def get_extension(self, code: int) -> None:
        """Refuse Python's registry of short codes: what it holds is not the file's business."""
        raise pickle.UnpicklingError(f"extension code {code}")

    def load_reduce(self) -> None:
        """Call a name with arguments."""
        arguments = self.stack.pop()
        self.stack[-1] = _build(self.stack[-1], arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce

    def load_newobj_ex(self) -> None:
        """Call a name with arguments and keywords; the keywords change nothing that is read."""
        self.stack.pop()
        self.load_reduce()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_inst(self) -> None:
        """Name and call at once, as protocol 0 does."""
        module, name = (self.readline()[:-1].decode("utf-8") for _ in range(2))
        arguments = tuple(self.pop_mark())
        self.append(_build(self.find_class(module, name), arguments))

    dispatch[pickle.INST[0]] = load_inst

    def load_obj(self) -> None:
        """Call the first of the marked values with the others, as protocol 1 does."""
        name, *arguments = self.pop_mark()
        self.append(_build(name, tuple(arguments)))

    dispatch[pickle.OBJ[0]] = load_obj

    def load_bytearray8(self) -> None:
        """Bytes that are there, whatever length is claimed."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_build(self) -> None:
        """Fill an object: arrays and number types with their content, an `Inert` with its state."""
        state = self.stack.pop()
        owner = self.stack[-1]
        if isinstance(owner, (_Array, _Dtype)):
            owner.fill(state)
        elif isinstance(owner, Inert):
            owner.state = state
        elif not isinstance(owner, (dict, Tensor)):  # attributes of these hold no weights
            raise pickle.UnpicklingError(f"a state for a {type(owner).__name__}")

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        """One item of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [(key, value)])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Items of a dictionary."""
        items = self.pop_mark()
        _set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    dispatch[pickle.SETITEMS[0]] = load_setitems


def settle(value: Any) -> Any:
    """The content with arrays as tensors; lists and tuples are gone through as deep as dicts.

    Shared and circular parts are visited once, so a small file cannot unfold into a large one.
    """
    done: dict[int, tuple[Any, Any]] = {}  # original (kept alive, so that its id stays) and result
    holder: list[Any] = [value]
    pending: list[Any] = [holder]
    while pending:
        place = pending.pop()
        for key, item in list(place.items() if isinstance(place, dict) else enumerate(place)):
            item = item.value if isinstance(item, _Array) else item
            if id(item) not in done and isinstance(item, (dict, list, tuple)):
                changed = list(item) if isinstance(item, tuple) else item
                done[id(item)] = (item, changed)
                pending.append(changed)
            place[key] = done[id(item)][1] if isinstance(item, tuple) else item
    return holder[0]


# ---------------------------------------------------------------- what names build


def _build(name: Any, arguments: Any) -> Any:
    if not isinstance(name, Name) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError(f"a call of a {type(name).__name__}")
    return name.build(*arguments)


def _set_items(owner: Any, items: Any) -> None:
    if isinstance(owner, Inert):  # an unknown kind of dictionary
        owner.state = owner.state if isinstance(owner.state, dict) else {}
        owner = owner.state
    if not isinstance(owner, dict):
        raise pickle.UnpicklingError(f"items for a {type(owner).__name__}")
    owner.update(items)


def _build_mapping(*arguments: Any) -> dict:
    """A plain dictionary of what an ordered, counting or attribute dictionary was given."""
    given = next((value for value in arguments if isinstance(value, (dict, list))), {})
    return dict(given)


def _refuse_array(*_: Any) -> None:
    raise pickle.UnpicklingError("a call of numpy.ndarray, which makes pointers out of bytes")


def _build_dtype(code: Any = "", *_: Any) -> _Dtype:
    return _Dtype(code if isinstance(code, str) else "")


def _build_scalar(dtype: Any, raw: Any = b"") -> Any:
    value = _array_of(raw, dtype, (), "C")
    return value.item() if isinstance(value, Tensor) else value


def _build_frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Tensor | Inert:
    return _array_of(raw, dtype, shape, "F" if order == "F" else "C")


def _array_of(raw: Any, dtype: Any, shape: Any, order: str) -> Tensor | Inert:
    """Numbers as a tensor; anything else as an `Inert`."""
    kind = dtype.resolve() if isinstance(dtype, _Dtype) else None
    if kind is None:
        if isinstance(raw, (bytes, bytearray, str)) and isinstance(dtype, _Dtype):
            _check_bytes_of_text(dtype)
        return Inert("numpy.ndarray")
    raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    shape = tuple(int(side) for side in shape)
    if min(shape, default=0) < 0 or len(raw) != kind.itemsize * int(np.prod(shape, dtype=object)):
        raise pickle.UnpicklingError(f"an array of shape {shape} in {len(raw)} bytes")
    array = np.frombuffer(raw, kind).reshape(shape, order=order)  # type: ignore[call-overload]
    native = np.ascontiguousarray(array, dtype=kind.newbyteorder("=")).reshape(shape)
    return torch.from_numpy(native.copy())


def _check_bytes_of_text(dtype: _Dtype) -> None:
    if dtype.code[:1] not in "SUmM":  # texts and dates; objects are never kept as bytes
        raise pickle.UnpicklingError(f"bytes for a numpy array of type {dtype.code!r}")


def _build_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch.save's tensor: a view of a storage, bounds checked."""
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise pickle.UnpicklingError("a tensor without a storage")
    return _view(storage.typed(storage.dtype), offset, tuple(size), tuple(stride))


def _build_typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Tensor:
    """The same for newer types, whose storage does not say them."""
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a storage or type")
    return _view(storage.typed(dtype), offset, tuple(size), tuple(stride))


def _view(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    numbers = (offset, *size, *stride)
    if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
        raise pickle.UnpicklingError("sizes that are no numbers of cells")
    count = int(np.prod(size, dtype=object))
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and last >= len(flat):
        raise pickle.UnpicklingError(f"a tensor of shape {size} in {len(flat)} numbers")
    if count > max(len(flat), 2**24):  # repeated cells are legal, but not thousands of times
        raise pickle.UnpicklingError(f"a tensor of shape {size} spread over {len(flat)} numbers")
    return torch.as_strided(flat, size, stride, offset)


def _build_from_type(build: Any, _: Any, arguments: Any, *__: Any) -> Any:
    return _build(build, arguments)


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _encode(text: Any = "", *_: Any) -> bytes:
    """_codecs.encode(text, "latin1"): how protocol 2 writes bytes."""
    return text.encode("latin1") if isinstance(text, str) else b""


def _reconstruct(kind: Any, *_: Any) -> Any:
    """copyreg's way to make an object without calling it."""
    return kind.build() if isinstance(kind, Name) else None


def _build_set(values: Any = (), *_: Any) -> Any:
    return list(values) if isinstance(values, (list, tuple, set)) else []


BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _build_tensor,
    "torch._utils._rebuild_tensor_v2": _build_tensor,
    "torch._utils._rebuild_tensor_v3": _build_typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _build_from_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _first,
    "torch.device": _first,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstruct,
    "numpy.ndarray": _refuse_array,
    "numpy.dtype": _build_dtype,
    "builtins.set": _build_set,
    "builtins.frozenset": _build_set,
} | {
    f"{home}.{name}": build
    for home in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
    for name, build in {
        "_reconstruct": lambda *_: _Array(),
        "scalar": _build_scalar,
        "_frombuffer": _build_frombuffer,
    }.items()
}
