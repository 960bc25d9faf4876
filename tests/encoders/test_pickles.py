"""The unpickler that runs nothing: as torch.load on honest files, one sentence on the others."""

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import random
import struct
import subprocess
import zipfile

import numpy as np
import pytest
import torch

from ssl_parts.encoders.pickles import Inert
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.errors import WeightsError

BASE = torch.arange(24.0).reshape(4, 6)
TYPES = (
    *(
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.complex64,
    ),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
HONEST = {
    "slice": BASE[1:3, ::2],
    "turned": BASE.t(),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3),
    "repeated": torch.ones(1).expand(5, 5),
    "parameter": torch.nn.Parameter(torch.rand(2, 2)),
    "nested": {"list": [torch.ones(2)], "tuple": (1, "a", None, True, 2.5, b"raw")},
    **{str(kind): torch.ones(3).to(kind) for kind in TYPES},
}
FORMATS = {
    "usual": {},
    "before 1.6": {"_use_new_zipfile_serialization": False},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5": {"pickle_protocol": 5},
}


def saved(content, path, **options):
    torch.save(content, path, **options)
    return read_checkpoint(path)


@pytest.mark.parametrize("form", list(FORMATS))
def test_tensors_come_back_bit_for_bit(form, tmp_path):
    found = saved(HONEST, tmp_path / "any.name", **FORMATS[form])
    for name, value in HONEST.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype and torch.equal(found[name], value.detach()), (
                name
            )
    assert torch.equal(found["nested"]["list"][0], torch.ones(2))
    assert list(found["nested"]["tuple"]) == [1, "a", None, True, 2.5, b"raw"]


def test_it_reads_what_torch_reads(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(content, tmp_path / "w.pth")
    theirs, ours = (
        torch.load(tmp_path / "w.pth", weights_only=True),
        read_checkpoint(tmp_path / "w.pth"),
    )
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    assert torch.equal(
        ours["optimizer"]["state"][0]["exp_avg"], theirs["optimizer"]["state"][0]["exp_avg"]
    )
    assert torch.equal(ours["rng"], theirs["rng"])


BESIDE = {
    "numpy state": np.random.get_state(),
    "numpy generators": [np.random.RandomState(0), np.random.default_rng(1)],
    "python state": random.getstate(),
    "namespace": argparse.Namespace(arch="resnet18", path=pathlib.PurePosixPath("/x")),
    "windows path": pathlib.PureWindowsPath("c:/x"),
    "times": [datetime.datetime(2026, 1, 1), datetime.timedelta(1), np.datetime64("2026-01-01")],
    "containers": [
        collections.Counter("aab"),
        collections.defaultdict(list, a=[1]),
        collections.deque([1]),
        {1, 2},
    ],
    "numbers": [
        np.float64(3),
        np.int64(4),
        np.bool_(True),
        1j,
        bytearray(b"x"),
        slice(1, 2),
        10**30,
    ],
    "texts": np.array(["a", "b"]),
    "objects": np.array([1, "a", None], dtype=object),
    "types": [np.dtype("f4"), torch.float16, torch.device("cpu"), torch.Size([1, 2])],
}


@pytest.mark.parametrize("form", list(FORMATS))
def test_what_stands_beside_the_tensors_is_no_hindrance(form, tmp_path):
    found = saved({"model": {"w": BASE}, **BESIDE}, tmp_path / "w.pth", **FORMATS[form])
    assert torch.equal(found["model"]["w"], BASE)
    assert torch.equal(found["numpy state"][1], torch.from_numpy(BESIDE["numpy state"][1]))
    assert found["namespace"].state["arch"] == "resnet18"
    assert found["containers"][:2] == [{"a": 2, "b": 1}, {"a": [1]}]
    assert found["numbers"][:3] == [3.0, 4, True] and found["numbers"][-1] == 10**30


@pytest.mark.parametrize("dtype", ["<f4", ">f8", ">i2", "<u4", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_order(dtype, order, tmp_path):
    array = np.asarray(np.arange(6).reshape(2, 3)[:, ::-1].astype(dtype), order=order)
    for protocol in (2, 4, 5):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": array}, protocol=protocol))
        assert np.array_equal(read_checkpoint(tmp_path / "w.pkl")["a"].numpy(), array)


def test_a_network_that_was_pickled_whole_gives_its_tensors(tmp_path):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    )
    found = saved(net, tmp_path / "w.pth")
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Pointers:
    """An array of objects whose pointers are bytes of the file."""

    def __reduce__(self):
        return np.ndarray, ((4,), "O", b"\x41" * 32)


def structured_lie():
    """The same through a dtype that says it holds no objects but has a field of them."""
    state = list(np.dtype([("a", "O")]).__reduce__()[2])
    state[7] = 0
    dtype = type("D", (), {"__reduce__": lambda _: (np.dtype, ("V8", False, True), tuple(state))})()
    build = np.zeros(1).__reduce__()
    return type(
        "A", (), {"__reduce__": lambda _: (*build[:2], (1, (4,), dtype, False, b"\x41" * 32))}
    )()


def object_lie():
    build = np.zeros(1).__reduce__()
    state = (1, (4,), np.dtype("O"), False, b"\x41" * 32)
    return type("A", (), {"__reduce__": lambda _: (*build[:2], state)})()


@pytest.mark.parametrize("form", ["usual", "before 1.6"])
@pytest.mark.parametrize(
    "beside",
    [
        Call(collections.Counter, Pointers()),
        Call(collections.OrderedDict, Pointers()),
        structured_lie(),
        object_lie(),
        Call(np.dtype("f4").type, Pointers()),
    ],
)
def test_bytes_never_become_pointers(beside, form, tmp_path):
    with pytest.raises(WeightsError, match=r"w\.pth cannot be read"):
        saved({"model": {"w": BASE}, "x": beside}, tmp_path / "w.pth", **FORMATS[form])


@pytest.mark.parametrize(
    ("runner", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (subprocess.getoutput, "subprocess.getoutput"),
    ],
)
def test_a_file_that_would_run_code_is_named_and_refused(runner, name, tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(WeightsError, match=rf"\({name}\).*Nothing was run.*do not use this file"):
        saved({"model": BASE, "x": Call(runner, f"touch {mark}")}, tmp_path / "w.pth")
    assert not mark.exists()


def with_pickle(path, data):
    """A torch file with another program inside."""
    torch.save({"a": BASE}, path)
    with zipfile.ZipFile(path) as old:
        members = {item.filename: old.read(item.filename) for item in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, data if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",  # a byte array of a terabyte
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",  # bytes
        b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".",  # memory for four billion memos
        b"\x80\x02\x82\x01.",  # copyreg's extensions
        b"\x80\x02K\x01K\x02R.",  # a call of a number
        b"\x80\x02" + b"(" * 10**5 + b".",
        b"\x80\x02cnumpy\ndtype\nN}q\x01U\x01aK\x01s\x86b.",  # attributes for a name of ours
        b"",
    ],
)
def test_programs_that_would_cost_memory_or_change_the_reader(program, tmp_path):
    path = with_pickle(tmp_path / "w.pth", program)
    try:
        content = read_checkpoint(path)
    except WeightsError as error:
        assert str(path) in str(error)
    else:
        assert content == {}


def test_views_stay_inside_their_storage(tmp_path):
    torch.save({"a": torch.arange(4.0)}, tmp_path / "w.pth")
    program = zipfile.ZipFile(tmp_path / "w.pth").read("w/data.pkl")
    size, stride = b"K\x04\x85", b"K\x01\x85"
    assert program.count(size) == 1
    for old, new in (
        (size, b"K\x05\x85"),
        (stride, b"M\x10\x27\x85"),
        (size, b"J\xff\xff\xff\x7f\x85"),
    ):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_checkpoint(with_pickle(tmp_path / "w.pth", program.replace(old, new)))


def test_shared_parts_do_not_unfold(tmp_path):
    """30 tuples of two times the one before: as many references as atoms in a grain of sand."""
    grown = {"w": BASE}
    for _ in range(30):
        grown = (grown, grown)
    found = saved({"model": {"w": BASE}, "x": grown}, tmp_path / "w.pth")
    assert torch.equal(found["model"]["w"], BASE)
    circle = {"w": BASE}
    circle["self"] = circle
    assert torch.equal(saved(circle, tmp_path / "w.pth")["self"]["self"]["w"], BASE)


def test_nothing_of_the_reader_is_changed_by_a_file(tmp_path):
    before = vars(Inert).copy()
    stream = io.BytesIO()
    pickle.Pickler(stream, 2).dump({"x": Call(argparse.Namespace)})
    (tmp_path / "w.pkl").write_bytes(stream.getvalue()[:-1] + b"}U\x06appendK\x01s\x86b.")
    with pytest.raises(WeightsError):
        read_checkpoint(tmp_path / "w.pkl")
    assert vars(Inert) == before
