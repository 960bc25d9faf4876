"""The dense interface: every map against what its name, dims and strides promise, and against
timm's own forward.
"""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from ssl_parts.encoders import build_encoder, encoder_hash
from ssl_parts.errors import ConfigError

CASES = {
    "resnet18": dict(name="resnet18", width=0.25),
    "resnet26_dilated": dict(name="resnet26", width=0.25, output_stride=8),
    "resnet18_small": dict(name="resnet18", small=True, width=0.5, last_stage="layer3"),
    "vgg11_bn": dict(name="vgg11_bn"),
    "mobilenetv2": dict(name="mobilenetv2_035", pad_type="same"),
    "mobilenetv3": dict(name="mobilenetv3_small_050"),
    "convnext": dict(name="convnext_atto"),
    "vit": dict(name="vit_tiny_patch16_224", last_stage="block2"),
    "dinov2_registers": dict(
        name="vit_small_patch14_reg4_dinov2", img_size=56, last_stage="block1"
    ),
    "dinov3": dict(name="vit_small_patch16_dinov3", last_stage="block1"),
    "no_cls": dict(
        name="vit_tiny_patch16_224", class_token=False, global_pool="avg", last_stage="block1"
    ),
}
SIZE = {"dinov2_registers": 56}
PREFIX_TOKENS = {"vit": 1, "dinov2_registers": 5, "dinov3": 5, "no_cls": 0}


def built(case):
    torch.manual_seed(0)
    return build_encoder(**CASES[case]).eval()


@pytest.fixture(scope="module", params=list(CASES))
def encoded(request):
    encoder = built(request.param)
    size = SIZE.get(request.param, 64)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return request.param, encoder, images, encoder(images, encoder.stages)


def test_every_map_has_the_channels_and_cells_it_promises(encoded):
    _, encoder, images, features = encoded
    assert list(features.maps) == list(encoder.stages)
    for stage, found in features.maps.items():
        side = images.shape[-1] // encoder.strides[stage]
        assert found.shape == (2, encoder.dims[stage], side, side), stage
    assert features.pooled.shape == (2, encoder.feature_dim)


def test_strides_never_fall_from_stage_to_stage(encoded):
    _, encoder, _, _ = encoded
    strides = [encoder.strides[stage] for stage in encoder.stages]
    assert strides == sorted(strides)


def test_a_stage_asked_for_alone_is_the_same_map(encoded):
    _, encoder, images, features = encoded
    for stage in (encoder.stages[0], encoder.last_stage):
        with torch.no_grad():
            alone = encoder(images, [stage])
        assert list(alone.maps) == [stage]
        assert torch.equal(alone.maps[stage], features.maps[stage])
        assert torch.equal(alone.pooled, features.pooled)
    with torch.no_grad():
        assert list(encoder(images).maps) == [encoder.last_stage]


def test_pooled_and_last_map_are_timm_s(encoded):
    case, encoder, images, features = encoded
    with torch.no_grad():
        x = (images - encoder.mean[:, None, None]) / encoder.std[:, None, None]
        output = encoder.model.forward_features(x)
        pooled = encoder.model(x)
    if case in PREFIX_TOKENS:
        patches = output[:, PREFIX_TOKENS[case] :]
        side = features.maps[encoder.last_stage].shape[-1]
        by_hand = patches.reshape(2, side, side, -1).permute(0, 3, 1, 2)
        assert torch.equal(features.maps[encoder.last_stage], by_hand)
        assert torch.equal(features.tokens, output)
        assert features.tokens.shape[1] == PREFIX_TOKENS[case] + side * side
    else:
        assert torch.equal(features.maps[encoder.last_stage], output)
        assert features.tokens is None
    if case in ("vgg11_bn", "mobilenetv3"):  # timm classifies behind further layers
        pooled = output.mean((2, 3))
    assert torch.equal(features.pooled, pooled)


def test_vit_earlier_blocks_come_before_the_final_norm():
    encoder = built("vit")
    seen = {}
    encoder.model.blocks[1].register_forward_hook(lambda module, args, out: seen.update(out=out))
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 64), ["block1"])
    assert torch.equal(features.maps["block1"].flatten(2).transpose(1, 2), seen["out"][:, 1:])


def test_vit_pooled_is_the_final_cls_token():
    for case in ("vit", "dinov2_registers", "dinov3"):
        encoder = built(case)
        size = SIZE.get(case, 64)
        features = encoder(torch.rand(1, 3, size, size))
        assert torch.equal(features.pooled, features.tokens[:, 0]), case


def test_resnet_stem_is_taken_after_the_max_pool():
    encoder = built("resnet18")
    seen = {}
    encoder.model.maxpool.register_forward_hook(lambda module, args, out: seen.update(out=out))
    features = encoder(torch.rand(1, 3, 64, 64), ["stem"])
    assert torch.equal(features.maps["stem"], seen["out"])


def test_small_resnet_ends_at_8x8_with_half_the_channels():
    encoder = built("resnet18_small")
    assert encoder.stages == ("stem", "layer1", "layer2", "layer3")
    assert encoder.dims == {"stem": 32, "layer1": 32, "layer2": 64, "layer3": 128}
    assert encoder(torch.rand(1, 3, 64, 64)).maps["layer3"].shape == (1, 128, 8, 8)


def test_a_cut_resnet_equals_the_whole_one_up_to_the_cut():
    torch.manual_seed(0)
    whole = build_encoder("resnet18", width=0.25).eval()
    cut = build_encoder("resnet18", width=0.25, last_stage="layer2").eval()
    cut.model.load_state_dict(whole.model.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(whole(images, ["layer2"]).maps["layer2"], cut(images).maps["layer2"])
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters()) / 4


def test_input_is_normalised_with_settable_statistics():
    encoder = built("mobilenetv2")
    images = torch.rand(2, 3, 32, 32)
    encoder.set_normalisation([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    by_hand = torch.stack(
        [(images[:, c] - m) / s for c, (m, s) in enumerate([(0.5, 0.2), (0.4, 0.3), (0.3, 0.4)])], 1
    )
    assert torch.allclose(encoder.normalise(images), by_hand)
    other = build_encoder("mobilenetv2_035", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    assert torch.allclose(other.mean, torch.tensor([0.1, 0.2, 0.3]))
    plain = build_encoder("mobilenetv2_035")
    assert torch.allclose(plain.mean, torch.tensor([0.485, 0.456, 0.406]))


def test_pad_type_reaches_timm():
    torch.manual_seed(0)
    same, plain = (
        build_encoder("mobilenetv2_035", pad_type="same").eval(),
        build_encoder("mobilenetv2_035").eval(),
    )
    plain.load_state_dict(same.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(same(images).pooled, plain(images).pooled)


@pytest.mark.parametrize("case", ["resnet18_small", "vit", "mobilenetv2", "convnext"])
def test_checkpointing_gives_the_same_gradients(case):
    encoder = built(case)
    images = torch.rand(2, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        encoder.zero_grad()
        encoder.set_grad_checkpointing(enable)
        features = encoder(images, encoder.stages)
        (features.pooled.sum() + sum(m.square().mean() for m in features.maps.values())).backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.requires_grad])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "case", ["resnet18", "vgg11_bn", "mobilenetv2", "mobilenetv3", "convnext", "vit", "dinov3"]
)
def test_every_parameter_that_wants_a_gradient_gets_one(case):
    # Distributed training hangs or fails on parameters that no feature reads.
    encoder = built(case).train()
    size = SIZE.get(case, 64)
    features = encoder(torch.rand(2, 3, size, size))
    (features.pooled.sum() + features.maps[encoder.last_stage].sum()).backward()
    assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


def test_copies_and_pickles_are_independent():
    encoder = built("resnet18")
    teacher = copy.deepcopy(encoder)
    with torch.no_grad():
        next(teacher.parameters()).add_(1)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.equal(encoder(images).pooled, teacher(images).pooled)
    again = pickle.loads(pickle.dumps(encoder))
    assert torch.equal(again(images).pooled, encoder(images).pooled)


def test_vit_takes_other_sizes_and_refuses_what_its_patches_do_not_divide():
    encoder = built("vit")
    assert encoder(torch.rand(1, 3, 96, 48)).maps["block2"].shape == (1, 192, 6, 3)
    with pytest.raises(ConfigError, match=r"patches of 16 px.*70 x 64.*size such as 64"):
        encoder(torch.rand(1, 3, 70, 64))


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8)],
)
def test_images_of_another_kind_are_refused(images):
    with pytest.raises(ConfigError, match=r"float RGB in \[0, 1\]"):
        built("resnet18")(images)


def test_unknown_stage_names_those_there_are():
    with pytest.raises(ConfigError, match=r"'layer9'.*stem, layer1"):
        built("resnet18")(torch.rand(1, 3, 64, 64), ["layer9"])


def test_hash_changes_with_one_bit_and_with_the_statistics():
    encoder = built("resnet18")
    before = encoder_hash(encoder)
    assert before == encoder_hash(copy.deepcopy(encoder).train())
    assert len(before) == 16
    changed = copy.deepcopy(encoder)
    changed.model.layer1[0].conv1.weight.data[0, 0, 0, 0] = torch.nextafter(
        changed.model.layer1[0].conv1.weight.data[0, 0, 0, 0], torch.tensor(9.0)
    )
    assert encoder_hash(changed) != before
    changed = copy.deepcopy(encoder)
    changed.set_normalisation([0.5] * 3, [0.5] * 3)
    assert encoder_hash(changed) != before
    counted = copy.deepcopy(encoder)
    counted.model.bn1.running_mean[0] += 1e-3
    assert encoder_hash(counted) != before


def test_networks_without_maps_are_refused():
    class Plain(nn.Module):
        pass

    from ssl_parts.encoders.families import layout_of

    with pytest.raises(ConfigError, match="no dense maps"):
        layout_of(Plain())


def test_timm_names_the_arguments_that_rebuild_the_network():
    for case in ("resnet18_small", "vit", "vgg11_bn"):
        encoder = built(case)
        again = timm.create_model(encoder.name, num_classes=0, **encoder.model_args).eval()
        again.load_state_dict(encoder.model.state_dict())
        images = torch.rand(1, 3, 64, 64)
        assert torch.equal(again.forward_features(images), encoder.model.forward_features(images))
