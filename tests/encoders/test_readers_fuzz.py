"""Whatever stands in a file of weights or beside it: a network, or one sentence of this project's
own.

Honest files are damaged (bits, cuts, insertions, copies of pieces) or their settings replaced by
any JSON.
"""

import json
import pickle

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ssl_parts.encoders import (
    EncoderConfig,
    build_encoder,
    complete_config,
    make_encoder,
    open_encoder,
    save_sealed,
)
from ssl_parts.encoders.digests import MARK
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.errors import SslPartsError, WeightsError
from ssl_parts.export import export_encoder

FEW = settings(  # no shrinking: the failing example is printed as it is, and a run stays short
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
FEWER = settings(FEW, max_examples=10)  # where each builds a network
SMALL = dict(name="resnet18", small=True, width=0.0625, last_stage="layer1")
SENTENCE = 1200  # letters


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder(**SMALL)


@pytest.fixture(scope="module")
def honest(place):
    """Small files of every kind that the reader knows."""
    state = {
        "conv.weight": torch.rand(2, 3, 3, 3),
        "conv.bias": torch.rand(2).half(),
        "steps": torch.tensor(3),
    }
    content = {"model": state, "rng": np.random.get_state(), "epoch": 3}
    torch.save(content, place / "zip")
    torch.save(content, place / "legacy", _use_new_zipfile_serialization=False)
    torch.save(content, place / "protocol4", pickle_protocol=4)
    save_sealed(place / "safetensors", state)
    with open(place / "npz", "wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state.items()})
    np.save(place / "npy.npy", {"net": {"w": np.ones(3)}}, allow_pickle=True)
    (place / "pickle").write_bytes(pickle.dumps({"w": np.ones(3), "n": np.float32(1)}))
    names = ("zip", "legacy", "protocol4", "safetensors", "npz", "npy.npy", "pickle")
    return {name: (place / name).read_bytes() for name in names}


def damage(data, cuts):
    """Bytes changed at places given as shares of the length."""
    changed = bytearray(data)
    for kind, at, value, length in cuts:
        where = int(at * len(changed))
        if kind == "flip" and changed:
            changed[min(where, len(changed) - 1)] ^= value or 1
        elif kind == "cut":
            del changed[where:]
        elif kind == "drop":
            del changed[where : where + length]
        elif kind == "fill":
            changed[where : where + length] = bytes([value]) * length
        elif kind == "copy":
            changed[where:where] = changed[where // 2 : where // 2 + length]
    return bytes(changed)


CUTS = st.lists(
    st.tuples(
        st.sampled_from(("flip", "flip", "cut", "drop", "fill", "copy")),
        st.floats(0, 1),
        st.integers(0, 255),
        st.integers(1, 64),
    ),
    min_size=1,
    max_size=6,
)


def attempt(act):
    """The value of an action, or None where it ends in one sentence of the project's own."""
    try:
        return act()
    except SslPartsError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < SENTENCE, str(error)
        assert "weights_only" not in str(error)
        return None


@pytest.mark.parametrize(
    "kind", ["zip", "legacy", "protocol4", "safetensors", "npz", "npy.npy", "pickle"]
)
@FEW
@given(cuts=CUTS)
def test_damaged_files(kind, honest, place, cuts):
    path = place / "damaged.any"
    path.write_bytes(damage(honest[kind], cuts))
    content = attempt(lambda: read_checkpoint(path))
    assert content is None or isinstance(content, dict)


@FEW
@given(
    data=st.binary(max_size=200),
    head=st.sampled_from((b"", b"PK\x03\x04", b"\x80\x02", b"\x93NUMPY", b"\x80\x04\x95")),
)
def test_any_bytes(place, data, head):
    path = place / "any.pth"
    path.write_bytes(head + data)
    content = attempt(lambda: read_checkpoint(path))
    assert content is None or isinstance(content, dict)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS
    | st.sampled_from(
        ("resnet18", "${oc.env:HOME}", "../..", "/etc/passwd", 10**9, -1, 0, [64, 64])
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def replaced(content, keys, value):
    """A copy with one value changed or, for None, taken out."""
    copy = json.loads(json.dumps(content))
    owner = copy
    for key in keys[:-1]:
        owner = owner[key]
    owner[keys[-1]] = value
    return copy


EXPORT_KEYS = (
    *(
        ("architecture",),
        ("model_args",),
        ("pretrained_cfg",),
        ("pretrained_cfg", "mean"),
        ("pretrained_cfg", "std"),
    ),
    *(
        ("pretrained_cfg", "input_size"),
        ("model_args", "layers"),
        ("model_args", "channels"),
        ("model_args", "stem_width"),
    ),
    *(("model_args", "output_stride"), ("model_args", "checkpoint_path"), ("model_args", "block")),
)
RUN_KEYS = (
    *(
        ("encoder",),
        ("data",),
        ("data", "size"),
        ("encoder", "name"),
        ("encoder", "width"),
        ("encoder", "small"),
    ),
    *(
        ("encoder", "last_stage"),
        ("encoder", "mean"),
        ("encoder", "timm_kwargs"),
        ("encoder", "what"),
        ("encoder", "weights"),
    ),
)


@pytest.fixture(scope="module")
def export(place, encoder):
    out = export_encoder(encoder, place / "export", image_size=32)
    (out / MARK).unlink()
    return out, json.loads((out / "config.json").read_text())


@FEWER
@given(keys=st.sampled_from(EXPORT_KEYS), value=VALUES)
def test_settings_of_somebody_s_export(export, keys, value):
    folder, content = export
    (folder / "config.json").write_text(json.dumps(replaced(content, keys, value)))
    attempt(lambda: open_encoder(folder))
    attempt(lambda: make_encoder(complete_config(EncoderConfig(weights=str(folder)))))


@pytest.fixture(scope="module")
def run(place, encoder):
    folder = place / "run"
    (folder / "round_000").mkdir(parents=True)
    save_file(encoder.state_dict(), folder / "round_000" / "encoder.safetensors")
    return folder, {"encoder": SMALL | {"timm_kwargs": {}}, "data": {"name": "drawn", "size": 32}}


@FEWER
@given(keys=st.sampled_from(RUN_KEYS), value=VALUES)
def test_settings_of_somebody_s_run(run, keys, value):
    folder, content = run
    (folder / "config.yaml").write_text(yaml.safe_dump(replaced(content, keys, value)))
    attempt(lambda: open_encoder(folder))
    attempt(lambda: make_encoder(complete_config(EncoderConfig(weights=str(folder)))))


@FEW
@given(cuts=CUTS)
def test_damaged_settings(run, export, cuts):
    for folder, content, name in ((*run, "config.yaml"), (*export, "config.json")):
        text = yaml.safe_dump(content) if name.endswith("yaml") else json.dumps(content)
        (folder / name).write_bytes(damage(text.encode(), cuts))
        attempt(lambda folder=folder: open_encoder(folder))


@pytest.mark.parametrize(
    "name", ["model.safetensors.index.json", "preprocessor_config.json", MARK, "config.json"]
)
@FEWER
@given(value=VALUES)
def test_any_json_beside_weights(place, encoder, name, value):
    folder = place / f"beside {name}"
    folder.mkdir(exist_ok=True)
    save_file(
        encoder.model.state_dict(), folder / ("weights" if "index" in name else "model.safetensors")
    )
    content = {
        "weight_map": value,
        "image_mean": value,
        "image_std": [1, 1, 1],
        "files": value,
        "architecture": value,
    }
    for written in (content, value):
        (folder / name).write_text(json.dumps(written))
        attempt(lambda: build_encoder(**SMALL, weights=folder))


def test_a_few_lines_that_unfold_to_gigabytes(run):
    folder, _ = run
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    (folder / "config.yaml").write_text("\n".join([*lines, "encoder: *a11"]))
    with pytest.raises(WeightsError, match="alias"):
        open_encoder(folder)
    (folder / "config.yaml").write_text("encoder: " + "[" * 500)
    with pytest.raises(WeightsError, match="cannot be read as YAML"):
        open_encoder(folder)
    (folder / "config.yaml").write_text("encoder: !!python/object/apply:os.system [id]")
    with pytest.raises(WeightsError, match="cannot be read as YAML"):
        open_encoder(folder)
