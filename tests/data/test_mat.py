import pickle

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ssl_parts.data.sets.mat import read_mat
from ssl_parts.errors import DataError


def test_reads_numbers_text_and_structures(tmp_path):
    rows = np.array([(1, "a"), (2, "b")], dtype=[("n", object), ("s", object)])
    savemat(tmp_path / "a.mat", {"rows": rows, "x": np.arange(4.0), "one": 7})
    x, one, got = read_mat(tmp_path / "a.mat", "x", "one", "rows")
    assert x.tolist() == [0, 1, 2, 3] and int(one) == 7
    assert [(int(row["n"]), row["s"]) for row in got] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_are_what_scipy_wrote(tmp_path, compressed, order):
    """Every numeric type and shape, against the values that scipy was given; and scipy reads the
    same.
    """
    rng = np.random.default_rng(0)
    types = ("f8", "f4", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
    values = {
        f"v{i}": rng.integers(0, 100, (1 + i % 3, 4, 1 + i % 2)).astype(order + t)
        for i, t in enumerate(types)
    }
    values["cells"] = np.array(["plain", "überzug", "", np.arange(6.0).reshape(2, 3)], dtype=object)
    values["rows"] = np.array(["one ", "three"])
    savemat(tmp_path / "a.mat", values, do_compression=compressed, oned_as="row")
    theirs = loadmat(tmp_path / "a.mat", squeeze_me=True)
    for name in [f"v{i}" for i in range(len(types))]:
        (ours,) = read_mat(tmp_path / "a.mat", name)
        assert np.array_equal(ours, np.squeeze(values[name])) and np.array_equal(ours, theirs[name])
    cells, rows = read_mat(tmp_path / "a.mat", "cells", "rows")
    assert cells[:3] == ["plain", "überzug", ""] and np.array_equal(cells[3], values["cells"][3])
    assert rows == ["one", "three"]


def test_objects_and_functions_are_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"x": np.arange(3.0)})
    data = bytearray((tmp_path / "a.mat").read_bytes())
    for class_ in (3, 5, 16, 17):  # object, sparse, function, opaque
        data[128 + 16] = class_
        (tmp_path / "a.mat").write_bytes(data)
        with pytest.raises(DataError, match="only plain data"):
            read_mat(tmp_path / "a.mat", "x")


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_parts.data.sets.mat.MAX_BYTES", 100_000)
    savemat(tmp_path / "a.mat", {"x": np.zeros(1_000_000)}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 10_000
    with pytest.raises(DataError, match="decompresses to more"):
        read_mat(tmp_path / "a.mat", "x")


def test_other_variables_are_not_touched_and_missing_ones_named(tmp_path):
    savemat(tmp_path / "a.mat", {"x": 1})
    with pytest.raises(DataError, match=r"a\.mat has no variable 'y'"):
        read_mat(tmp_path / "a.mat", "y")
    with pytest.raises(DataError, match=r"b\.mat: cannot read"):
        read_mat(tmp_path / "b.mat", "y")


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_a_pickle_under_the_name_of_a_mat_file_is_not_run(tmp_path):
    (tmp_path / "evil.mat").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(DataError, match="cannot read"):
        read_mat(tmp_path / "evil.mat", "annotations")
    assert not (tmp_path / "ran").exists()


def test_damage_gives_data_errors_only(tmp_path):
    rows = np.array([(i, f"{i}.jpg") for i in range(20)], dtype=[("n", object), ("s", object)])
    savemat(tmp_path / "a.mat", {"rows": rows}, do_compression=True)
    savemat(tmp_path / "b.mat", {"rows": rows})
    rng, path, refused = np.random.default_rng(0), tmp_path / "damaged.mat", 0
    for trial in range(500):
        data = bytearray((tmp_path / ("a.mat", "b.mat")[trial % 2]).read_bytes())
        if trial % 4 < 2:
            del data[rng.integers(len(data)) :]
        else:
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(128, len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            read_mat(path, "rows")
        except DataError as error:
            assert path.name in str(error)
            refused += 1
    assert 300 < refused < 500


def test_hdf5_and_size(tmp_path, monkeypatch):
    header = b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header + bytes(400))
    with pytest.raises(DataError, match=r"7\.3"):
        read_mat(tmp_path / "new.mat", "x")
    savemat(tmp_path / "a.mat", {"x": 1})
    monkeypatch.setattr("ssl_parts.data.sets.mat.MAX_BYTES", 10)
    with pytest.raises(DataError, match="far more"):
        read_mat(tmp_path / "a.mat", "x")
