"""EncoderConfig: files in configs/encoder, and one clear error for each thing a user can get
wrong.
"""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_parts.encoders import EncoderConfig, build_encoder, make_encoder
from ssl_parts.errors import ConfigError, WeightsError

FILES = sorted((Path(__file__).resolve().parents[2] / "configs" / "encoder").glob("*.yaml"))


def config_of(path, **changes):
    merged = OmegaConf.merge(OmegaConf.structured(EncoderConfig), OmegaConf.load(path), changes)
    return OmegaConf.to_object(merged)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_file_fits_the_schema_and_says_paper_and_cost(path):
    config = config_of(path)
    config.check()
    text = path.read_text()
    assert "arXiv" in text and "Cost:" in text
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_file_builds_and_its_maps_are_as_its_comment_says(path):
    with torch.device("meta"):
        encoder = make_encoder(config_of(path))
    comment = " ".join(
        line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")
    )
    size = 64 if "Maps at 64 px" in comment else 224
    side = size // encoder.strides[encoder.last_stage]
    assert f"{side}x{side}x{encoder.dims[encoder.last_stage]}" in comment
    millions = sum(p.numel() for p in encoder.model.parameters()) / 1e6
    stated = float(comment.split("Cost: ")[1].split(" M")[0])
    assert stated == pytest.approx(millions, rel=0.03)


def test_there_is_a_file_for_each_encoder_of_the_issue():
    names = "resnet18_small resnet18 resnet50 mobilenetv2_100 convnext_tiny vit_small_patch8 vit_small_patch14_dinov2"
    assert {path.stem for path in FILES} >= set(names.split())


def test_mobilenet_file_suits_its_weights(real_data):
    path = next(p for p in FILES if p.stem == "mobilenetv2_100")
    weights = str(real_data / "weights" / "mobilenetv2_100_imagenet_padsame.pth")
    encoder = make_encoder(config_of(path, weights=weights))
    assert len(encoder.report.matched) == encoder.report.total == 260
    assert encoder.model_args == {"pad_type": "same"}
    assert encoder.mean.tolist() == encoder.std.tolist() == [0.5, 0.5, 0.5]


def test_null_timm_argument_gives_timm_s_default():
    path = next(p for p in FILES if p.stem == "mobilenetv2_100")
    assert make_encoder(config_of(path, timm_kwargs={"pad_type": None})).model_args == {}


def test_unknown_key_is_refused():
    with pytest.raises(OmegaConfBaseException):
        OmegaConf.merge(OmegaConf.structured(EncoderConfig), {"weight": "x"})


def test_unknown_name_suggests_near_ones():
    with pytest.raises(
        ConfigError, match=r"'resnet5O' is not a timm model; did you mean .*resnet50"
    ):
        make_encoder(EncoderConfig(name="resnet5O"))
    with pytest.raises(ConfigError, match="not a timm model"):
        build_encoder("local-dir:/nowhere")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(mean=[0.5] * 3), "go together"),
        (dict(mean=[0.5] * 2, std=[0.5] * 3), "three numbers"),
        (dict(mean=[0.5] * 3, std=[0.5, 0.0, 0.5]), "std above 0"),
        (dict(output_stride=12), "8, 16, 32"),
        (dict(width=0.0), "width=0"),
    ],
)
def test_values_that_cannot_work(values, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(**values).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(name="resnet18", last_stage="layer5"), "'layer5'.*layer1, layer2"),
        (dict(name="vit_tiny_patch16_224", last_stage="block12"), "block0 to block11"),
        (dict(name="convnext_atto", last_stage="stage2"), "cannot cut"),
        (dict(name="convnext_atto", small=True), "encoder.small is for ResNets"),
        (dict(name="vit_tiny_patch16_224", width=0.5), "encoder.width is for ResNets"),
        (
            dict(name="resnet18", timm_kwargs={"pad_typ": "same"}),
            "pad_typ is no argument of resnet18's constructor",
        ),
        (
            dict(name="vit_tiny_patch16_224", output_stride=8),
            "output_stride=8 is for networks whose strides can be dilated",
        ),
    ],
)
def test_options_that_a_network_does_not_have(values, message):
    with pytest.raises(ConfigError, match=message):
        make_encoder(EncoderConfig(**values))


def test_missing_weights_are_seen_before_anything_is_built():
    with pytest.raises(WeightsError, match=r"encoder.weights=/no/such.pth does not exist"):
        EncoderConfig(weights="/no/such.pth").check()
