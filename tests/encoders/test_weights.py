"""Weights in: prefixes, nesting, accounting, refusals."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssl_parts.encoders import build_encoder, encoder_hash
from ssl_parts.errors import ConfigError, WeightsError

SMALL = dict(name="resnet18", width=0.25)


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(7)
    encoder = build_encoder(**SMALL)
    encoder.model.bn1.running_mean.normal_()
    return encoder.eval()


@pytest.fixture(scope="module")
def state(source):
    return {name: value.clone() for name, value in source.model.state_dict().items()}


def fresh(weights=None, **options):
    torch.manual_seed(99)
    return build_encoder(**{**SMALL, **options}, weights=weights)


def same_network(encoder, source):
    pairs = zip(
        encoder.model.state_dict().values(), source.model.state_dict().values(), strict=True
    )
    return all(torch.equal(a, b) for a, b in pairs)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def noise(state):
    return {name: torch.randn_like(value.float()).to(value.dtype) for name, value in state.items()}


LAYOUTS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "ddp": lambda s: {"model": prefixed(s, "module.")},
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "backbone": lambda s: {"state_dict": prefixed(s, "backbone.")},
    "three_deep": lambda s: {"a": {"b": {"model": prefixed(s, "module._orig_mod.encoder.")}}},
    "namespace": lambda s: {"args": argparse.Namespace(arch="resnet18"), "state_dict": s},
    "teacher_over_student": lambda s: {
        "student": noise(s),
        "teacher": prefixed(s, "module.backbone."),
    },
    "teacher_prefix": lambda s: prefixed(noise(s), "student.") | prefixed(s, "teacher."),
    "online_over_momentum": lambda s: {
        "state_dict": prefixed(noise(s), "module.encoder_k.") | prefixed(s, "module.encoder_q.")
    },
    "online_over_target": lambda s: (
        prefixed(noise(s), "backbone_momentum.") | prefixed(s, "backbone.")
    ),
    "with_classifier": lambda s: (
        s | {"fc.weight": torch.rand(1000, 128), "fc.bias": torch.rand(1000)}
    ),
    "ours": lambda s: (
        prefixed(s, "encoder.model.")
        | {"encoder.mean": torch.ones(3) * 0.1, "encoder.std": torch.ones(3)}
    ),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_load_completely(layout, state, source, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](state), path)
    encoder = fresh(path)
    assert same_network(encoder, source)
    assert encoder.report.missing == encoder.report.mismatched == []
    assert (
        len(encoder.report.matched)
        == encoder.report.total
        == len([n for n in state if "num_batches" not in n])
    )


def test_statistics_of_our_checkpoints_are_taken_over_and_others_refused(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(LAYOUTS["ours"](state), path)
    assert torch.equal(fresh(path).mean, torch.ones(3) / 10)
    assert torch.equal(fresh(path, mean=[0.1] * 3, std=[1.0] * 3).mean, torch.ones(3) / 10)
    with pytest.raises(
        ConfigError, match=r"encoder.mean=\[0.5,0.5,0.5\] but .* trained with mean \[0.1,0.1,0.1\]"
    ):
        fresh(path, mean=[0.5] * 3, std=[0.5] * 3)


def test_safetensors_and_npz(state, source, tmp_path):
    save_file(state, tmp_path / "weights.safetensors")
    np.savez(tmp_path / "weights.npz", **{name: value.numpy() for name, value in state.items()})
    for name in ("weights.safetensors", "weights.npz"):
        assert same_network(fresh(tmp_path / name), source)


def test_classifier_is_reported_as_unexpected(state, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS["with_classifier"](state), path)
    assert fresh(path).report.unexpected == ["fc.weight", "fc.bias"]


def test_partial_coverage_is_refused_with_counts_and_loaded_on_request(state, source, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(
        {name: value for name, value in state.items() if not name.startswith("layer4.")}, path
    )
    with pytest.raises(
        WeightsError, match=r"80 of 105 .*25 missing \(layer4.*encoder.allow_partial=true"
    ):
        fresh(path)
    encoder = fresh(path, allow_partial=True)
    assert len(encoder.report.missing) == 25
    assert torch.equal(encoder.model.layer3[1].conv2.weight, source.model.layer3[1].conv2.weight)
    assert torch.equal(encoder.model.layer4[1].conv2.weight, fresh().model.layer4[1].conv2.weight)


def test_other_widths_depths_and_families_are_refused(tmp_path, state):
    path = tmp_path / "weights.pth"
    torch.save(build_encoder("resnet18", width=0.5).model.state_dict(), path)
    with pytest.raises(WeightsError, match=r"mismatched \(.*another architecture"):
        fresh(path)
    torch.save(build_encoder("resnet34", width=0.25).model.state_dict(), path)
    with pytest.raises(
        WeightsError, match=r"deeper network than resnet18: it has layer1\.2\.conv1\.weight"
    ):
        fresh(path)
    torch.save(build_encoder("vit_tiny_patch16_224", last_stage="block0").model.state_dict(), path)
    with pytest.raises(WeightsError, match="0 of 105 encoder tensors"):
        fresh(path)


def test_a_cut_encoder_takes_the_weights_of_the_whole(state, source, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    encoder = fresh(path, last_stage="layer2").eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(encoder(images).maps["layer2"], source(images, ["layer2"]).maps["layer2"])


def test_refused_weights_leave_the_encoder_as_it_was(state, tmp_path):
    from ssl_parts.encoders import load_weights

    path = tmp_path / "weights.pth"
    torch.save({name: value for name, value in state.items() if "layer4" not in name}, path)
    encoder = fresh()
    before = encoder_hash(encoder)
    with pytest.raises(WeightsError):
        load_weights(encoder, path)
    assert encoder_hash(encoder) == before


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(writer, tmp_path, state):
    bomb = Bomb()
    bomb.path = tmp_path / "exploded"
    path = tmp_path / "weights.pth"
    if writer == "torch":
        torch.save({"state_dict": state, "extra": bomb}, path)
    else:
        path.write_bytes(pickle.dumps({"extra": bomb}))
    with pytest.raises(WeightsError, match=r"Python objects|not a whole|cannot be read"):
        fresh(path)
    assert not bomb.path.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "npz"])
def test_truncated_files(suffix, tmp_path, state):
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    elif suffix == "safetensors":
        save_file(state, path)
    else:
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=str(path)):
        fresh(path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"<html>404</html>"])
def test_other_files(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"empty|cannot be read|is a web page"):
        fresh(path)


def test_a_checkpoint_of_something_else(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"lstm.weight_ih_l0": torch.rand(4, 4)}}, path)
    with pytest.raises(WeightsError, match=r"0 of 105 .*unexpected \(lstm"):
        fresh(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds a list"):
        fresh(path)


@pytest.mark.parametrize(
    "name", ["mobilenetv2_035", "convnext_atto", "vgg11_bn", "mobilenetv3_small_050"]
)
def test_other_families_load_their_own_weights(name, tmp_path):
    torch.manual_seed(1)
    encoder = build_encoder(name)
    torch.save(
        {"state_dict": prefixed(encoder.model.state_dict(), "backbone.")}, tmp_path / "weights.pth"
    )
    torch.manual_seed(2)
    again = build_encoder(name, tmp_path / "weights.pth")
    assert again.report.unexpected == []
    assert same_network(again, encoder)


def test_positional_embedding_is_interpolated(tmp_path):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    options = dict(name="vit_tiny_patch16_224", last_stage="block0")
    small = build_encoder(**options, img_size=64)
    small.model.pos_embed.data.normal_()
    path = tmp_path / "weights.pth"
    torch.save({"teacher": prefixed(small.model.state_dict(), "backbone.")}, path)
    large = build_encoder(**options, img_size=128, weights=path)
    expected = resample_abs_pos_embed(small.model.pos_embed, [8, 8], num_prefix_tokens=1)
    assert torch.allclose(large.model.pos_embed, expected)
    assert large.report.missing == []


def test_another_patch_size_is_another_architecture(tmp_path):
    options = dict(last_stage="block0", img_size=64)
    path = tmp_path / "weights.pth"
    torch.save(build_encoder("vit_small_patch16_224", **options).model.state_dict(), path)
    with pytest.raises(
        WeightsError, match=r"patch_embed.proj.weight: \(384, 3, 16, 16\) for \(384, 3, 8, 8\)"
    ):
        build_encoder("vit_small_patch8_224", **options, weights=path)


def test_registers_are_not_optional(tmp_path):
    path = tmp_path / "weights.pth"
    options = dict(last_stage="block0", img_size=56)
    state = build_encoder("vit_small_patch14_dinov2", **options).model.state_dict()
    torch.save(state | {"mask_token": torch.zeros(1, 384)}, path)
    with pytest.raises(WeightsError, match="missing"):
        build_encoder("vit_small_patch14_reg4_dinov2", **options, weights=path)
