"""encoder.weights=RUN, EXPORT or a checkpoint that keeps the name of its network: they say which
network it is.
"""

import argparse
import json
from dataclasses import replace

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from ssl_parts.encoders import (
    BareFile,
    EncoderConfig,
    build_encoder,
    complete_config,
    encoder_hash,
    locate,
    make_encoder,
)
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export import export_encoder

SMALL = dict(name="resnet18", small=True, width=0.25, last_stage="layer3")
GROUP = ("name", "small", "width")  # what encoder=FILE asks for


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(1)
    return build_encoder(**SMALL, mean=[0.4] * 3, std=[0.3] * 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory, source):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    (folder / "round_000").mkdir(parents=True)
    save_file(source.state_dict(), folder / "round_000" / "encoder.safetensors")
    content = {
        "encoder": SMALL | {"weights": None, "timm_kwargs": {}},
        "data": {"name": "drawn", "size": 72},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory, run):
    return export_encoder(run, tmp_path_factory.mktemp("exports") / "out")


@pytest.mark.parametrize("place", ["run", "export"])
def test_nothing_but_the_weights_need_be_said(place, source, request):
    folder = request.getfixturevalue(place)
    encoder = make_encoder(EncoderConfig(weights=str(folder)))
    assert encoder_hash(encoder) == encoder_hash(source) and encoder.stages == source.stages
    assert locate(folder).image_size == 72
    complete = complete_config(EncoderConfig(weights=str(folder)))
    assert complete_config(complete) == complete
    # it can be rebuilt without
    assert encoder_hash(make_encoder(replace(complete, weights=None))) != encoder_hash(source)


@pytest.mark.parametrize("place", ["run", "export"])
def test_a_recipe_s_own_encoder_gives_way_and_one_that_is_named_does_not(place, source, request):
    folder = request.getfixturevalue(place)
    recipe = EncoderConfig(
        "mobilenetv2_100", weights=str(folder), bare_file=BareFile([0.5] * 3, [0.5] * 3, "same")
    )
    assert encoder_hash(make_encoder(complete_config(recipe, asked=["weights"]))) == encoder_hash(
        source
    )
    with pytest.raises(
        ConfigError, match=r"holds resnet18, .* but encoder.name=mobilenetv2_100 .*leave encoder= "
    ):
        complete_config(recipe, asked=["weights", *GROUP])
    with pytest.raises(
        ConfigError, match=r"encoder.name=resnet18 encoder.small=False .*was asked for"
    ):
        complete_config(EncoderConfig("resnet18", weights=str(folder)), asked=["weights", *GROUP])
    with pytest.raises(ConfigError, match=r"encoder.width=0.5 was asked for"):
        complete_config(replace(recipe, name=None, width=0.5, small=True), asked=["width"])
    with pytest.raises(ConfigError, match="'resnet81' is not a timm model; did you mean"):
        complete_config(EncoderConfig("resnet81", weights=str(folder)))


@pytest.mark.parametrize("place", ["run", "export"])
def test_the_same_network_may_be_named_and_other_options_asked_for(place, source, request):
    folder = request.getfixturevalue(place)
    same = EncoderConfig(**SMALL, weights=str(folder))
    assert encoder_hash(make_encoder(same)) == encoder_hash(source)
    assert encoder_hash(
        make_encoder(complete_config(same, asked=[*GROUP, "last_stage"]))
    ) == encoder_hash(source)
    shorter = make_encoder(EncoderConfig(weights=str(folder), last_stage="layer2"))
    assert shorter.last_stage == "layer2"
    finer = complete_config(EncoderConfig(weights=str(folder), output_stride=16))
    assert make_encoder(complete_config(finer)).strides["layer3"] == 16
    dropped = EncoderConfig(weights=str(folder), timm_kwargs={"drop_path_rate": 0.1})
    assert (
        complete_config(dropped, asked=["timm_kwargs.drop_path_rate"]).timm_kwargs["drop_path_rate"]
        == 0.1
    )
    assert "drop_path_rate" not in complete_config(dropped, asked=[]).timm_kwargs


def test_python_s_own_way_is_refused_as_well(run):
    with pytest.raises(WeightsError, match=r"holds resnet18, but encoder.name=resnet50"):
        build_encoder("resnet50", run)


@pytest.mark.parametrize(
    "content",
    [
        lambda state: {
            "arch": "resnet18",
            "epoch": 3,
            "state_dict": {f"module.{k}": v for k, v in state.items()},
        },
        lambda state: {"args": argparse.Namespace(model="resnet18", lr=0.1), "state_dict": state},
    ],
)
def test_checkpoints_of_training_scripts_that_keep_the_name(content, tmp_path):
    state = timm.create_model("resnet18").state_dict()
    torch.save(content(state), tmp_path / "w.pth.tar")
    encoder = make_encoder(EncoderConfig(weights=str(tmp_path / "w.pth.tar")))
    assert encoder.name == "resnet18" and torch.equal(
        encoder.model.state_dict()["conv1.weight"], state["conv1.weight"]
    )


def test_a_snapshot_of_timm_s_from_the_hub(tmp_path):
    model = timm.create_model("resnet18", num_classes=10)
    timm.models.save_for_hf(model, tmp_path)
    encoder = make_encoder(EncoderConfig(weights=str(tmp_path)))
    assert encoder.name == "resnet18" and encoder.report.missing == []


def test_who_says_nothing_and_knows_nothing_is_asked(tmp_path):
    with pytest.raises(ConfigError, match=r"encoder.name is missing: name a network"):
        make_encoder(EncoderConfig())
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"encoder.name is missing"):
        make_encoder(EncoderConfig(weights=str(tmp_path / "w.pth")))


def test_the_home_folder_and_places_that_are_none(tmp_path, monkeypatch, run):
    monkeypatch.setenv("HOME", str(run.parent))
    assert make_encoder(EncoderConfig(weights="~/mine")).name == "resnet18"
    for path, said in (
        ("~/yours", "does not exist"),
        ("x" * 300, "cannot be opened"),
        ("a\0b", "cannot be opened"),
    ):
        with pytest.raises(WeightsError, match=said):
            EncoderConfig("resnet18", weights=path).check()


FOLDERS = {
    "accelerate": (["model.safetensors", "optimizer.bin", "random_states_0.pkl"], None),
    "transformers": (["model.safetensors", "config.json"], None),
    "pytorch": (["pytorch_model.bin"], None),
    "unnamed": (["teacher.pth"], r"give one of its files, such as .*teacher\.pth"),
    "fsdp": (["__0_0.distcp"], "accelerate merge-weights"),
    "deepspeed": (["zero_to_fp32.py", "latest"], "zero_to_fp32"),
    "empty": ([], r"looked for model\.safetensors.*give a file"),
}


@pytest.mark.parametrize("case", list(FOLDERS))
def test_folders_of_other_programs(case, tmp_path):
    names, said = FOLDERS[case]
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    for name in names:
        if name.endswith(".safetensors"):
            save_file(state, tmp_path / name)
        elif name.endswith((".bin", ".pth")):
            torch.save(state, tmp_path / name)
        else:
            (tmp_path / name).write_text(json.dumps({"model_type": "resnet"}))
    if said is None:
        assert build_encoder("resnet18", tmp_path).report.missing == []
    else:
        with pytest.raises(WeightsError, match=said):
            build_encoder("resnet18", tmp_path)


def test_a_neighbouring_config_yaml_of_another_program_is_not_looked_at(tmp_path):
    (tmp_path / "config.yaml").write_text("encoder: [this, is: not, ours")
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "w.pth")
    assert build_encoder("resnet18", tmp_path / "w.pth").report.missing == []
