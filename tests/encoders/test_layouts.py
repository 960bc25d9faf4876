"""Checkpoints in other projects' layouts, built from their published naming, load completely and
give equal features.

Where the other project is installed (torchvision, lightly) its own modules write the checkpoint;
elsewhere the names are spelled out here, apart from the loader's tables.
"""

import argparse
import collections
import os
import pickle
import re

import numpy as np
import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from ssl_parts.encoders import build_encoder
from ssl_parts.errors import WeightsError

RESNET = dict(name="resnet26", channels=[8, 8, 8, 8])  # bottlenecks, as in ResNet-50, two a stage
VIT = dict(name="vit_tiny_patch16_224", img_size=32, depth=3)
DINOV2 = dict(name="vit_small_patch14_reg4_dinov2", img_size=28, depth=3)
DINOV3 = dict(name="vit_small_patch16_dinov3", depth=2)


def source_of(options):
    torch.manual_seed(5)
    encoder = build_encoder(**options)
    for name, value in encoder.model.state_dict().items():
        if value.is_floating_point():  # no two tensors equal, so that a swapped pair is seen
            value.copy_(
                torch.rand_like(value) + 0.5
                if name.endswith("running_var")
                else torch.randn_like(value) / 10
            )
    return encoder.eval()


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def noise(state):
    return {name: torch.randn_like(value.float()) for name, value in state.items()}


def head(prefix, *widths):
    return {f"{prefix}{2 * i}.weight": torch.rand(n, 4) for i, n in enumerate(widths)}


def moco_v2(s):
    network = prefixed(s, "module.encoder_q.") | head("module.encoder_q.fc.", 8, 4)
    momentum = prefixed(noise(s), "module.encoder_k.") | head("module.encoder_k.fc.", 8, 4)
    return {
        "epoch": 800,
        "arch": "resnet50",
        "state_dict": network | momentum | {"module.queue": torch.rand(4, 8)},
    }


def moco_v3(s):
    network = prefixed(s, "module.base_encoder.") | head("module.base_encoder.head.", 8, 4)
    momentum = prefixed(noise(s), "module.momentum_encoder.") | head("module.predictor.", 8)
    return {
        "epoch": 300,
        "arch": "vit_small",
        "state_dict": network | momentum,
        "optimizer": {"state": {}},
    }


def swav(s):
    return (
        prefixed(s, "module.")
        | head("module.projection_head.", 8, 4)
        | {"module.prototypes.weight": torch.rand(3, 4)}
    )


def dino(s):
    student = prefixed(noise(s), "module.backbone.") | head("module.head.mlp.", 8)
    teacher = prefixed(s, "backbone.") | head("head.mlp.", 8)
    loss = {"center": torch.rand(1, 4)}
    args = argparse.Namespace(arch="vit_small", patch_size=16)
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": {},
        "epoch": 9,
        "args": args,
        "dino_loss": loss,
    }


def ibot(s):
    return {"state_dict": s | {"masked_embed": torch.zeros(1, 192)}}


def dinov2_release(s):
    renamed = {re.sub("^reg_token$", "register_tokens", name): value for name, value in s.items()}
    # The release keeps a position for [CLS]; timm's register models have none and add it to the
    # token.
    renamed["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), s["pos_embed"]], 1)
    return renamed | {"mask_token": torch.zeros(1, 384)}


def dinov2_training(s):
    release = dinov2_release(s)
    chunked = {
        re.sub(r"^blocks\.(\d+)\.", r"blocks.0.\1.", name): value for name, value in release.items()
    }
    student = prefixed(noise(chunked), "student.backbone.")
    return {
        "model": prefixed(chunked, "teacher.backbone.")
        | student
        | head("teacher.dino_head.mlp.", 8)
    }


def dinov3_release(s):
    found = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.rand(16)}
    for name, value in s.items():
        name = (
            name.replace("reg_token", "storage_tokens")
            .replace("gamma_1", "ls1.gamma")
            .replace("gamma_2", "ls2.gamma")
        )
        found[name] = value
    for i in range(2):
        found[f"blocks.{i}.attn.qkv.bias"] = torch.zeros(3 * 384)
        found[f"blocks.{i}.attn.qkv.bias_mask"] = torch.zeros(3 * 384)
    return found


CHILDREN = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def numbered(s):
    return {
        re.sub(r"^\w+", lambda m: str(CHILDREN[m[0]]), name): value for name, value in s.items()
    }


def particle(s):
    return prefixed(numbered(s), "module.encoder.") | head("module.projector.", 8)


def particle_copies(s):
    return {
        "student": prefixed(numbered(noise(s)), "encoder."),
        "teacher": prefixed(numbered(s), "encoder."),
    }


def vissl(s):
    trunk = prefixed(s, "_feature_blocks.")
    model = {"trunk": trunk, "heads": head("0.clf.", 8)}
    return {
        "classy_state_dict": {"base_model": {"model": model, "meta": {"trunk": "resnet"}}},
        "iteration_num": np.float64(3),
    }


def mmselfsup_resnet(s):
    meta = {"mmselfsup_version": "0.9", "epoch": 200, "config": "model = dict()"}
    return {"meta": meta, "state_dict": prefixed(s, "backbone.") | head("head.fc.", 8)}


def mmselfsup_vit(s):
    found = {}
    for name, value in s.items():
        name = re.sub(r"^norm\.", "ln1.", name).replace(
            "patch_embed.proj.", "patch_embed.projection."
        )
        name = re.sub(r"^blocks\.(\d+)\.norm([12])\.", r"layers.\1.ln\2.", name)
        name = re.sub(r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0.", name)
        name = re.sub(r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1.", name)
        name = re.sub(r"^blocks\.", "layers.", name)
        found[f"backbone.{name}"] = value
    return {"meta": {}, "state_dict": found | {"neck.mask_token": torch.zeros(1, 1, 4)}}


def solo_learn(s):
    network = (
        prefixed(s, "backbone.") | prefixed(noise(s), "momentum_backbone.") | head("projector.", 8)
    )
    settings = OmegaConf.create(
        {"method": "byol", "backbone": {"name": "resnet50", "kwargs": {}}, "crops": [1, 2]}
    )
    callbacks = {"ModelCheckpoint{'monitor': None}": {"best_model_score": None}}
    return {
        "state_dict": network,
        "hyper_parameters": settings,
        "callbacks": callbacks,
        "loops": collections.OrderedDict(),
    }


def torch_port_of_detcon(s):
    found = {}
    for name, value in haiku(s, transpose=False).items():
        owner = name.removeprefix("res_net50/~/")
        owner = owner.replace("block_group_", "block_groups.block_group_").replace(
            "/block_", "/blocks.block_"
        )
        for leaf, array in value.items():
            leaf = {"w": ".weight", "scale": ".weight", "offset": ".bias", "average": ""}[leaf]
            port = (
                owner.replace("mean_ema", "running_mean")
                .replace("var_ema", "running_var")
                .replace("/~/", ".")
            )
            found[port + leaf] = (
                torch.from_numpy(array).reshape(-1) if "norm" in port else torch.from_numpy(array)
            )
    return found


def haiku(s, transpose=True):
    """{"res_net50/~/block_group_0/~/block_0/~/conv_0": {"w": HWIO}}: haiku's names for DeepMind's
    networks.py.
    """
    found = collections.defaultdict(dict)
    for name, value in s.items():
        *owner, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        path = "initial_" + owner[0][:-1] if len(owner) == 1 else None
        if path is None:
            group, block = int(owner[0][-1]) - 1, owner[1]
            if owner[2] == "downsample":
                inner = "shortcut_" + ("conv", "bn")[int(owner[3])]
            else:
                inner = f"{owner[2][:-1]}_{int(owner[2][-1]) - 1}"
            path = f"block_group_{group}/~/block_{block}/~/{inner}"
        path = "res_net50/~/" + path.replace("bn", "batchnorm")
        array = value.numpy()
        if array.ndim == 4:
            found[path]["w"] = (
                np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if transpose else array
            )
        elif leaf.startswith("running_"):
            found[f"{path}/~/{leaf.removeprefix('running_')}_ema"]["average"] = array.reshape(
                1, 1, 1, -1
            )
        else:
            found[path][{"weight": "scale", "bias": "offset"}[leaf]] = array.reshape(1, 1, 1, -1)
    return {key: dict(value) for key, value in found.items()}


LAYOUTS = {
    "moco_v2": (RESNET, moco_v2),
    "moco_v3": (VIT, moco_v3),
    "swav": (RESNET, swav),
    "dino_resnet": (RESNET, dino),
    "dino_vit": (VIT, dino),
    "ibot": (VIT, ibot),
    "dinov2_release": (DINOV2, dinov2_release),
    "dinov2_training": (DINOV2, dinov2_training),
    "dinov3_release": (DINOV3, dinov3_release),
    "particle": (RESNET, particle),
    "particle_bare": (RESNET, numbered),
    "particle_copies": (RESNET, particle_copies),
    "vissl": (RESNET, vissl),
    "mmselfsup_resnet": (RESNET, mmselfsup_resnet),
    "mmselfsup_vit": (VIT, mmselfsup_vit),
    "solo_learn": (RESNET, solo_learn),
    "detcon_port": (RESNET, torch_port_of_detcon),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layout_loads_completely_and_gives_the_same_features(layout, tmp_path):
    options, write = LAYOUTS[layout]
    source = source_of(options)
    path = tmp_path / "checkpoint.pth"
    torch.save(
        write({name: value.clone() for name, value in source.model.state_dict().items()}), path
    )
    check_loaded(path, options, source)


def check_loaded(path, options, source):
    encoder = build_encoder(**options, weights=path).eval()
    report = encoder.report
    assert len(report.matched) == report.total and not report.missing and not report.mismatched
    images = torch.rand(
        1, 3, *(2 * [source.model.patch_embed.img_size[0] if "img_size" in options else 64])
    )
    with torch.no_grad():
        ours, theirs = encoder(images, encoder.stages), source(images, source.stages)
    assert all(torch.equal(ours.maps[stage], theirs.maps[stage]) for stage in encoder.stages)
    assert torch.equal(ours.pooled, theirs.pooled)


@pytest.mark.parametrize(
    "extra", [{}, {"classifier": {"w": np.zeros((4, 8), np.float32)}, "step": 7}]
)
def test_detcon_npy(extra, tmp_path):
    source = source_of(RESNET)
    path = tmp_path / "detconb.npy"
    np.save(path, haiku(source.model.state_dict()) | extra, allow_pickle=True)
    check_loaded(path, RESNET, source)


def test_haiku_npz(tmp_path):
    source = source_of(RESNET)
    arrays = {
        f"{k}/{leaf}": a
        for k, v in haiku(source.model.state_dict()).items()
        for leaf, a in v.items()
    }
    np.savez(tmp_path / "weights.npz", **arrays)
    check_loaded(tmp_path / "weights.npz", RESNET, source)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_npy_with_code_is_refused_and_nothing_runs(tmp_path):
    content = np.empty((), dtype=object)
    content[()] = {
        "res_net50/~/initial_conv": {"w": np.zeros((1, 1))},
        "x": Bomb(tmp_path / "exploded"),
    }
    np.save(tmp_path / "weights.npy", content, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"Python objects.*\(posix\.mkdir\)"):
        build_encoder(**RESNET, weights=tmp_path / "weights.npy")
    assert not (tmp_path / "exploded").exists()
    assert pickle.dumps(content)  # the bomb is live: numpy's own loader would set it off


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[: len(data) // 2], lambda data: b"no numpy" + data, lambda data: b"\x93"],
)
def test_broken_npy(spoil, tmp_path):
    path = tmp_path / "weights.npy"
    np.save(path, haiku(source_of(RESNET).model.state_dict()), allow_pickle=True)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"weights\.npy"):
        build_encoder(**RESNET, weights=path)


def test_bare_array(tmp_path):
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(WeightsError, match="bare array"):
        build_encoder(**RESNET, weights=tmp_path / "weights.npy")


@pytest.mark.parametrize("write", [numbered, torch_port_of_detcon], ids=["sequential", "haiku"])
def test_a_deeper_network_is_refused_in_foreign_names_too(write, tmp_path):
    deeper = source_of({**RESNET, "layers": [2, 2, 3, 2]})
    path = tmp_path / "checkpoint.pth"
    torch.save(write(deeper.model.state_dict()), path)
    with pytest.raises(WeightsError, match=r"deeper network.*layer3\.2\."):
        build_encoder(**RESNET, weights=path)


# ---------------------------------------------------------------- written by the other project itself


def with_statistics(model):
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def torchvision_convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [
        CNBlockConfig(8, 16, 1),
        CNBlockConfig(16, 24, 1),
        CNBlockConfig(24, 32, 2),
        CNBlockConfig(32, None, 1),
    ]
    return ConvNeXt(blocks, layer_scale=0.5)


def torchvision_vit():
    model = torchvision.models.VisionTransformer(32, 16, 2, 3, 192, 768)
    nn.init.normal_(model.class_token)
    return model


TORCHVISION = {
    "resnet18": (lambda: torchvision.models.resnet18(), dict(name="resnet18")),
    "vgg11_bn": (lambda: slim_vgg(), dict(name="vgg11_bn")),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(), dict(name="mobilenetv2_100")),
    "convnext": (
        torchvision_convnext,
        dict(name="convnext_tiny", depths=[1, 1, 2, 1], dims=[8, 16, 24, 32]),
    ),
    "vit": (torchvision_vit, dict(name="vit_tiny_patch16_224", img_size=32, depth=2)),
}


def slim_vgg():
    from torchvision.models.vgg import cfgs, make_layers

    model = nn.Module()  # torchvision's VGG without its classifier: 400 MB that no feature reads
    model.features = make_layers(cfgs["A"], batch_norm=True)
    return model


@pytest.mark.parametrize("case", list(TORCHVISION))
def test_torchvision(case, tmp_path):
    make, options = TORCHVISION[case]
    theirs = with_statistics(make())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder(
        **options, weights=tmp_path / "weights.pth", mean=[0.0] * 3, std=[1.0] * 3
    ).eval()
    assert len(encoder.report.matched) == encoder.report.total
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        if case == "resnet18":
            expected = nn.Sequential(*list(theirs.children())[:-1])(images).flatten(1)
        elif case == "vit":
            tokens = torch.cat([theirs.class_token, theirs._process_input(images)], 1)
            expected = theirs.encoder(tokens)[:, 0]
        else:
            expected = theirs.features(images).mean((2, 3))
            if case == "convnext":
                expected = theirs.classifier[0](expected[:, :, None, None]).flatten(1)
        assert torch.allclose(encoder(images).pooled, expected, atol=1e-5, rtol=1e-4)


def test_lightly_example(tmp_path):
    from lightly.models.modules import SimCLRProjectionHead

    resnet = with_statistics(torchvision.models.resnet18())
    example = nn.Module()
    example.backbone = nn.Sequential(*list(resnet.children())[:-1])
    example.projection_head = SimCLRProjectionHead(512, 64, 32)
    torch.save(
        {"state_dict": example.state_dict(), "pytorch-lightning_version": "2.5"},
        tmp_path / "last.ckpt",
    )
    encoder = build_encoder(
        "resnet18", tmp_path / "last.ckpt", mean=[0.0] * 3, std=[1.0] * 3
    ).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(
            encoder(images).pooled, example.backbone.eval()(images).flatten(1), atol=1e-5
        )


def test_lightly_dino_takes_the_teacher(tmp_path):
    resnet = with_statistics(torchvision.models.resnet18())
    state = resnet.state_dict()
    both = prefixed(noise(state), "student_backbone.") | prefixed(state, "teacher_backbone.")
    torch.save({"state_dict": both}, tmp_path / "last.ckpt")
    encoder = build_encoder("resnet18", tmp_path / "last.ckpt")
    assert torch.equal(encoder.model.conv1.weight, resnet.conv1.weight)
