"""Mean, deviation and padding belong to the weights: taken from who knows, refused where two
differ, suspected else.
"""

import json

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from ssl_parts.encoders import BareFile, EncoderConfig, build_encoder, make_encoder, suspect_input
from ssl_parts.encoders.inputs import CONVENTIONS, padding_of
from ssl_parts.errors import ConfigError
from ssl_parts.export import export_encoder

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
TF = BareFile(*HALF, "same")
MOBILE = "mobilenetv2_035"


def close(values, wanted):
    return torch.allclose(values, torch.tensor(wanted), atol=1e-4)


def timm_state(tmp_path, name="w.pth"):
    torch.save(timm.create_model(MOBILE).state_dict(), tmp_path / name)
    return str(tmp_path / name)


@pytest.fixture
def downloads(monkeypatch):
    """timm's own weights without a network: random ones."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **more: create(name, **more)
    )


def test_timm_s_own_weights_bring_their_input_whatever_a_bare_file_would(downloads):
    encoder = make_encoder(EncoderConfig(MOBILE, weights="pretrained", bare_file=TF))
    assert close(encoder.mean, IMAGENET[0]) and close(encoder.std, IMAGENET[1])
    assert padding_of(encoder.model) == "symmetric"


def test_timm_s_own_weights_with_another_input_are_refused(downloads):
    with pytest.raises(
        ConfigError,
        match=r"encoder.mean=\[0.5,0.5,0.5\] but .* \[0.485,0.456,0.406\].*pretrained_cfg",
    ):
        make_encoder(EncoderConfig(MOBILE, weights="pretrained", mean=HALF[0], std=HALF[1]))
    with pytest.raises(
        ConfigError,
        match=r"same padding but .* symmetric padding .*encoder.timm_kwargs.pad_type=null",
    ):
        make_encoder(EncoderConfig(MOBILE, weights="pretrained", timm_kwargs={"pad_type": "same"}))
    encoder = make_encoder(EncoderConfig("tf_efficientnet_lite0", weights="pretrained"))
    assert close(encoder.mean, HALF[0]) and padding_of(encoder.model) == "same"


def test_a_bare_file_gets_what_the_configuration_assumes_of_bare_files(tmp_path):
    encoder = make_encoder(EncoderConfig(MOBILE, weights=timm_state(tmp_path), bare_file=TF))
    assert close(encoder.mean, HALF[0]) and padding_of(encoder.model) == "same"
    assert encoder.model_args == {"pad_type": "same"}


def test_what_is_asked_for_goes_before_what_is_assumed(tmp_path):
    asked = dict(mean=[0.4] * 3, std=[0.3] * 3, timm_kwargs={"pad_type": None})
    encoder = make_encoder(
        EncoderConfig(MOBILE, weights=timm_state(tmp_path), bare_file=TF, **asked)
    )
    assert close(encoder.mean, [0.4] * 3) and padding_of(encoder.model) == "symmetric"


def test_random_weights_assume_nothing():
    encoder = make_encoder(EncoderConfig(MOBILE, bare_file=TF))
    assert close(encoder.mean, IMAGENET[0]) and padding_of(encoder.model) == "symmetric"


def test_torchvision_s_names_tell_torchvision_s_input(tmp_path):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "w.pth")
    config = dict(name="mobilenetv2_100", weights=str(tmp_path / "w.pth"))
    encoder = make_encoder(EncoderConfig(**config, bare_file=TF))
    assert close(encoder.mean, IMAGENET[0]) and padding_of(encoder.model) == "symmetric"
    # somebody trained it in another way
    own = make_encoder(EncoderConfig(**config, mean=[0.4] * 3, std=[0.3] * 3))
    assert close(own.mean, [0.4] * 3)
    with pytest.raises(ConfigError, match=r"same padding but .*torchvision"):
        make_encoder(EncoderConfig(**config, timm_kwargs={"pad_type": "same"}))


def test_timm_s_file_under_its_own_name_is_known(tmp_path):
    torch.save(
        timm.create_model("mobilenetv2_100").state_dict(),
        tmp_path / "mobilenetv2_100_ra-b33bc2c4.pth",
    )
    config = EncoderConfig(
        "mobilenetv2_100", weights=str(tmp_path / "mobilenetv2_100_ra-b33bc2c4.pth"), bare_file=TF
    )
    encoder = make_encoder(config)
    assert close(encoder.mean, IMAGENET[0]) and padding_of(encoder.model) == "symmetric"


def test_an_export_knows_mean_and_padding(tmp_path):
    source = build_encoder(MOBILE, mean=HALF[0], std=[0.25] * 3, pad_type="same")
    out = export_encoder(source, tmp_path / "out", image_size=32)
    assert close(build_encoder(MOBILE, out, pad_type="same").std, [0.25] * 3)
    with pytest.raises(ConfigError, match=r"symmetric padding but .* same padding .*pad_type=same"):
        build_encoder(MOBILE, out)
    with pytest.raises(ConfigError, match=r"encoder.mean=\[0.485"):
        build_encoder(MOBILE, out, pad_type="same", mean=IMAGENET[0], std=[0.25] * 3)


def test_hugging_face_s_preprocessing_is_taken(tmp_path):
    save_file(timm.create_model(MOBILE).state_dict(), tmp_path / "model.safetensors")
    about = tmp_path / "preprocessor_config.json"
    about.write_text(
        json.dumps({"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]})
    )
    for path in (tmp_path, tmp_path / "model.safetensors"):
        encoder = make_encoder(EncoderConfig(MOBILE, weights=str(path), bare_file=TF))
        assert close(encoder.mean, [0.48, 0.46, 0.41]) and padding_of(encoder.model) == "symmetric"
    about.write_text(json.dumps({"do_normalize": False}))
    assert close(build_encoder(MOBILE, tmp_path).std, [1.0] * 3)
    about.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.0] * 3}))
    with pytest.raises(
        Exception, match=r"preprocessor_config\.json: mean=\[0\.5\].* three numbers"
    ):
        build_encoder(MOBILE, tmp_path)


# ---------------------------------------------------------------- suspicion


def images_of(count=8, side=64):
    """Smooth random images, bright as photographs are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def trained_on(images, mean, std, name="resnet18", **options):
    """A network whose batch-norms have seen these images with this input."""
    torch.manual_seed(0)
    encoder = build_encoder(name, mean=mean, std=std, **options).train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average
    with torch.no_grad():
        encoder(images)
    return encoder.eval()


@pytest.mark.parametrize("name", ["resnet18", MOBILE, "efficientnet_b0"])
@pytest.mark.parametrize("true", list(CONVENTIONS))
def test_a_wrong_convention_is_suspected_and_the_right_one_is_not(name, true):
    images = images_of()
    encoder = trained_on(images[:4], *CONVENTIONS[true], name=name)
    assert suspect_input(encoder, images[4:]) is None
    for said, (mean, std) in CONVENTIONS.items():
        near = {true, said} == {
            "ImageNet's mean and standard deviation",
            "CLIP's mean and standard deviation",
        }
        if said != true and not near:
            encoder.set_normalisation(mean, std)
            suspicion = suspect_input(encoder, images[4:])
            assert suspicion is not None and "encoder.mean=" in suspicion
            assert true in suspicion or "CLIP" in suspicion or "ImageNet" in suspicion
    assert not encoder.training


def test_nothing_is_suspected_without_evidence():
    images = images_of()
    # its statistics are initial ones
    assert suspect_input(build_encoder("resnet18", width=0.125), images) is None
    assert (
        suspect_input(build_encoder("vit_tiny_patch16_224", img_size=64, depth=1), images) is None
    )
    wrong = trained_on(images, *HALF)
    wrong.set_normalisation([0.0] * 3, [1 / 255] * 3)
    assert suspect_input(wrong, images) is not None and suspect_input(wrong, images[:3]) is None


@pytest.mark.parametrize(
    "weights",
    ["mobilenetv2_100_imagenet_padsame.pth", "tf_efficientnet_lite2_imagenet_fp16.safetensors"],
)
def test_real_weights_on_real_photographs(weights, real_data):
    from ssl_parts.data import DataConfig, build_bank

    name = "mobilenetv2_100" if "mobile" in weights else "tf_efficientnet_lite2"
    root = next(
        folder for folder in (real_data / "cub10", real_data / "data" / "cub10") if folder.is_dir()
    )
    bank = build_bank(
        DataConfig(name="cub", root=str(root), size=96, allow_partial=True, cache="none")
    )
    images = torch.stack([bank.sample(i).image for i in range(0, len(bank), 20)]).float() / 255
    path = str(real_data / "weights" / weights)
    right, wrong = (
        build_encoder(name, path, mean=HALF[0], std=HALF[1]),
        build_encoder(name, path, mean=IMAGENET[0], std=IMAGENET[1]),
    )
    assert suspect_input(right, images) is None
    assert "inputs scaled to [-1, 1]" in str(suspect_input(wrong, images))
