"""Files of weights by their content: any name, in shards, and one sentence for what is none."""

import gzip
import json
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_parts.encoders import build_encoder, read_tensors, save_sealed
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.errors import WeightsError

STATE = {"conv.weight": torch.rand(4, 3, 3, 3), "conv.bias": torch.rand(4)}


def same(found):
    return found.keys() == STATE.keys() and all(
        torch.equal(found[name], value) for name, value in STATE.items()
    )


@pytest.mark.parametrize(
    "name", ["w.pth", "w.bin", "w.ckpt", "W.SAFETENSORS", "weights", "w.npz", "w.txt"]
)
def test_the_content_says_the_kind(name, tmp_path):
    path = tmp_path / name
    for write in (
        lambda: save_file(STATE, path),
        lambda: torch.save(STATE, path),
        lambda: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(as_npz(tmp_path)),
    ):
        write()
        assert same(read_checkpoint(path))


def as_npz(folder):
    np.savez_compressed(
        folder / "made.npz", **{k: v.numpy() for k, v in STATE.items()}, names=np.array(["a"])
    )
    return (folder / "made.npz").read_bytes()


def test_a_bunch_of_plain_arrays(tmp_path):
    np.save(tmp_path / "w.npy", {"net/~/conv": {"w": np.ones(3)}}, allow_pickle=True)
    assert torch.equal(
        read_checkpoint(tmp_path / "w.npy")["net/~/conv"]["w"], torch.ones(3).double()
    )
    np.save(tmp_path / "w.npy", np.ones(3))
    with pytest.raises(WeightsError, match="bare array"):
        read_checkpoint(tmp_path / "w.npy")


def test_files_without_checksums_are_read_too(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_checkpoint(tmp_path / "w.pth"))


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_the_numbers_is_seen(at, tmp_path):
    torch.save({"a": torch.rand(2000)}, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    data[int(at * len(data))] ^= 1
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_sealed_file_is_compared_with_its_seal(tmp_path):
    path = tmp_path / "w.safetensors"
    save_sealed(path, STATE)
    assert same(read_tensors(path)) and same(load_file(path))
    for again in range(8):  # the library's own order of the metadata changes from file to file
        save_sealed(tmp_path / "again.safetensors", STATE)
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes(), again
    for at in (-1, -100):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        (tmp_path / "flipped.safetensors").write_bytes(data)
        with pytest.raises(WeightsError, match="its tensors are not those that were written"):
            read_tensors(tmp_path / "flipped.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        read_tensors(tmp_path / "none.safetensors")


OTHERS = {
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        r"Git LFS.*git lfs pull",
    ),
    "page": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "denied": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    "gzip": (gzip.compress(b"x" * 100), "gunzip"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "json": (b'{"a": 1}', "cannot be read as a PyTorch checkpoint"),
    "noise": (bytes(range(1, 200)), "cannot be read as a PyTorch checkpoint"),
    "header": (struct.pack("<Q", 10**12) + b"{" + bytes(50), "cannot be read|not a whole"),
    "short": (b"PK\x03\x04", "cannot be read"),
}


@pytest.mark.parametrize("case", list(OTHERS))
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_file_of_weights_is_named(case, suffix, tmp_path):
    content, said = OTHERS[case]
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    said = (
        said
        if suffix == "pth"
        else said.replace("cannot be read as a PyTorch checkpoint", "not a whole safetensors")
    )
    with pytest.raises(WeightsError, match=said) as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_archives_around_weights_say_how_to_unpack_them(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.write(tmp_path / "w.pth", "inner/w.pth")
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(tmp_path / "w.pth", "w.pth")
    with pytest.raises(WeightsError, match=r"archive of inner/w\.pth: unpack it"):
        read_checkpoint(tmp_path / "w.zip")
    with pytest.raises(WeightsError, match=r"tar xf"):
        read_checkpoint(tmp_path / "w.tar")


def test_torchscript_says_how_to_save_the_weights(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)).save(
            str(tmp_path / "w.pt")
        )
    with pytest.raises(
        WeightsError, match=r"TorchScript.*torch\.jit\.load\(FILE\)\.state_dict\(\)"
    ):
        read_checkpoint(tmp_path / "w.pt")


def test_an_archive_that_unfolds_to_gigabytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + bytes(50 * 2**20))
    with pytest.raises(WeightsError, match="unfold to 50 MB"):
        read_checkpoint(tmp_path / "w.npz")


def test_an_array_larger_than_its_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
        )
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path / "w.npz")


# ---------------------------------------------------------------- shards


def in_shards(folder, write=save_file, stem="model", suffix="safetensors"):
    names = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    for name, (key, value) in zip(names, STATE.items()):
        write({key: value}, folder / name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict(zip(STATE, names))}))
    return index, [folder / name for name in names]


@pytest.mark.parametrize(
    "form", [(save_file, "model", "safetensors"), (torch.save, "pytorch_model", "bin")]
)
def test_shards_are_put_together_by_index_or_by_any_of_them(form, tmp_path):
    index, shards = in_shards(tmp_path, *form)
    assert all(same(read_checkpoint(path)) for path in (index, *shards))
    index.unlink()
    assert same(read_checkpoint(shards[1]))
    shards[0].unlink()
    with pytest.raises(WeightsError, match=r"lacks 1 of 2 shards \(\w+-00001-of-00002"):
        read_checkpoint(shards[1])


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "a/b.safetensors"])
def test_an_index_reads_only_files_beside_it(name, tmp_path):
    save_file(STATE, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv.bias": name}})
    )
    with pytest.raises(WeightsError, match="outside its folder"):
        read_checkpoint(folder / "model.safetensors.index.json")


def test_an_index_that_promises_more_than_its_shards_hold(tmp_path):
    index, _ = in_shards(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["conv.scale"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"lack 1 tensors \(conv\.scale"):
        read_checkpoint(index)
    for broken in ("[]", "{}", '{"weight_map": 3}', "{", '{"weight_map": {}}'):
        index.write_text(broken)
        with pytest.raises(WeightsError, match=r"index\.json"):
            read_checkpoint(index)


def test_a_hugging_face_snapshot_in_shards_loads_from_its_folder(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", width=0.125)
    state = encoder.model.state_dict()
    names = list(state)
    parts = [names[:40], names[40:]]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for part, file in zip(parts, files):
        save_file({name: state[name] for name in part}, tmp_path / file)
    table = {name: file for part, file in zip(parts, files) for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    again = build_encoder("resnet18", tmp_path, width=0.125)
    assert all(torch.equal(again.model.state_dict()[name], value) for name, value in state.items())
    assert again.mean.tolist() == [0.5] * 3 and again.std.tolist() == [0.25] * 3
