"""Runs and exports of other people: their settings open no file, run nothing, take no memory;
flipped bits are seen.
"""

import json
import os
import pickle
import time

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ssl_parts.encoders import (
    EncoderConfig,
    build_encoder,
    encoder_hash,
    make_encoder,
    open_encoder,
    save_sealed,
)
from ssl_parts.encoders.constructor import constructor_keys, create_skeleton
from ssl_parts.encoders.digests import MARK
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export import export_encoder

SMALL = dict(name="resnet18", small=True, width=0.125, last_stage="layer2")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder(**SMALL)


@pytest.fixture
def export(encoder, tmp_path):
    return export_encoder(encoder, tmp_path / "export", image_size=32)


@pytest.fixture
def run(encoder, tmp_path):
    (tmp_path / "run" / "round_000").mkdir(parents=True)
    state = encoder.state_dict()
    save_sealed(tmp_path / "run" / "round_000" / "encoder.safetensors", state)
    return tmp_path / "run"


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


READS = (
    "checkpoint_path",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "pretrained_strict",
)
BUILDS = (
    "block",
    "scriptable",
    "exportable",
    "no_jit",
    "features_only",
    "in_chans",
    "num_classes",
    "norm_layer.__call__",
)


@pytest.mark.parametrize("key", [*READS, *BUILDS])
@pytest.mark.parametrize("place", ["export", "run"])
def test_only_arguments_of_the_constructor_pass(place, key, export, run, tmp_path):
    bomb = tmp_path / "bomb.pth"
    bomb.write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "exploded")}))
    value = {"file": str(bomb)} if key.startswith("pretrained_cfg") else str(bomb)
    if place == "export":
        content = json.loads((export / "config.json").read_text())
        (export / MARK).unlink()
        content["model_args"][key] = value
        (export / "config.json").write_text(json.dumps(content))
    else:
        (run / "config.yaml").write_text(
            yaml.safe_dump({"encoder": {**SMALL, "timm_kwargs": {key: value}}})
        )
    for which in (export if place == "export" else run,):
        if key in ("in_chans", "num_classes") and place == "export":
            continue  # timm writes them; see below
        with pytest.raises(
            WeightsError, match=f"timm_kwargs.{key} is no argument of resnet18's constructor"
        ):
            open_encoder(which)
        with pytest.raises(ConfigError, match=f"timm_kwargs.{key} is no argument"):
            make_encoder(EncoderConfig(weights=str(which)))
    with pytest.raises(ConfigError, match=f"timm_kwargs.{key} is no argument"):
        build_encoder("resnet18", **{key: value})
    assert not (tmp_path / "exploded").exists()


def test_the_arguments_are_those_that_timm_s_classes_name():
    keys = constructor_keys(create_skeleton("resnet18", {}))
    assert {
        "layers",
        "channels",
        "stem_type",
        "drop_path_rate",
        "output_stride",
        "act_layer",
    } <= set(keys)
    assert not {"block", "num_classes", "in_chans", "kwargs", "self"} & set(keys)
    assert {"pad_type", "bn_eps"} <= set(constructor_keys(create_skeleton("mobilenetv2_035", {})))
    assert {"img_size", "depth", "dynamic_img_pad"} <= set(
        constructor_keys(create_skeleton("vit_tiny_patch16_224", {}))
    )


def test_a_network_that_is_not_rgb_is_named(export):
    content = json.loads((export / "config.json").read_text())
    (export / MARK).unlink()
    for channels, said in ((4, "takes 4 channels"), ("x", "takes x channels")):
        content["model_args"]["in_chans"] = channels
        (export / "config.json").write_text(json.dumps(content))
        with pytest.raises(WeightsError, match=said):
            open_encoder(export)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": [10**7, 1, 1, 1]},
        {"layers": [150, 150, 1, 1]},
        {"channels": [10**5] * 4},
        {"stem_width": 10**6},
        {"channels": [2**40] * 4},
        {"act_layer": "x" * 10**5},
        {"layers": [[[[1]]]]},
        {"drop_rate": float("nan")},
        {"layers": []},
        {"output_stride": 0},
        {"cardinality": 0},
    ],
)
def test_settings_of_impossible_networks_end_at_once(values, export):
    content = json.loads((export / "config.json").read_text())
    (export / MARK).unlink()
    content["model_args"] |= values
    (export / "config.json").write_text(json.dumps(content))
    began = time.process_time()
    with pytest.raises(WeightsError) as caught:
        open_encoder(export)
    assert time.process_time() - began < 5 and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name", ["local-dir:/tmp", "hf-hub:me/bird", "resnet18.nonsense", "", 3, None, ["resnet18"]]
)
def test_only_names_that_timm_knows_are_built(name, export, run):
    content = json.loads((export / "config.json").read_text())
    (export / MARK).unlink()
    (export / "config.json").write_text(json.dumps(content | {"architecture": name}))
    (run / "config.yaml").write_text(yaml.safe_dump({"encoder": SMALL | {"name": name}}))
    for folder in (export, run):
        with pytest.raises(WeightsError):
            open_encoder(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"encoder": SMALL | {"weigths": 1}}, "encoder.weigths is unknown"),
        ({"encoder": SMALL | {"width": "wide"}}, "encoder cannot be read"),
        ({"encoder": [1, 2]}, r"encoder is \[1, 2\], not a mapping"),
        ({"encoder": SMALL | {"mean": [0.5]}}, "go together"),
        ({"encoder": SMALL | {"name": "${oc.env:SECRET}"}}, "not looked up"),
        ({"encoder": SMALL | {"timm_kwargs": {"act_layer": "${oc.env:SECRET}"}}}, "not looked up"),
        ([1], "holds list"),
        ("text", "holds str"),
        (None, "holds NoneType"),
    ],
)
def test_settings_of_a_run_that_cannot_be(content, said, run, monkeypatch):
    monkeypatch.setenv("SECRET", "resnet18")
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(WeightsError, match=said):
        open_encoder(run)


def test_a_run_without_settings_of_an_encoder_says_so(run):
    (run / "config.yaml").write_text("data: {size: 32}")
    with pytest.raises(WeightsError, match="does not say which network"):
        open_encoder(run)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_bit_in_an_export_is_seen(name, export):
    data = bytearray((export / name).read_bytes())
    at = len(data) - 3 if name == "model.safetensors" else data.index(b"0.485") + 3
    data[at] ^= 1
    (export / name).write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{name} is not what was exported"):
        open_encoder(export)
    (export / MARK).unlink()
    if name == "model.safetensors":  # the file's own seal is left
        with pytest.raises(WeightsError, match="its tensors are not those that were written"):
            open_encoder(export)


def test_a_flipped_bit_in_a_run_is_seen(run, encoder):
    (run / "config.yaml").write_text(yaml.safe_dump({"encoder": SMALL}))
    assert encoder_hash(open_encoder(run)) == encoder_hash(encoder)
    path = run / "round_000" / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="is damaged: its tensors are not those"):
        open_encoder(run)


def test_last_names_no_other_folder(run, encoder, tmp_path):
    (run / "config.yaml").write_text(yaml.safe_dump({"encoder": SMALL}))
    (run / "round_000" / "encoder.safetensors").unlink()
    inside, outside = run / "round_000" / "checkpoints" / "step_000001", tmp_path / "outside"
    for folder, value in ((inside, encoder), (outside, build_encoder(**SMALL))):
        folder.mkdir(parents=True)
        save_file(value.state_dict(), folder / "student.safetensors")
    for text in (str(outside), "../../../../outside", "step_000009", "x" * 10**5):
        (inside.parent / "last").write_text(text)
        assert encoder_hash(open_encoder(run)) == encoder_hash(encoder)
