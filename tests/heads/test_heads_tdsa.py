"""TDSA against its formulas written out in loops over images, classes and channels."""

import math

import pytest
import torch

from evaluation.heads import build_head
from evaluation.heads.tdsa import class_masks, discriminality, diversity, top_down_attention
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import ConfigError


def slow_discriminality(maps, mask, labels):
    C, X = mask.shape
    total = 0.0
    for b in range(len(maps)):
        y = []
        for c in range(C):
            pixels = []
            for i in range(maps.shape[2]):
                for j in range(maps.shape[3]):
                    pixels.append(
                        max(float(maps[b, c * X + x, i, j] * mask[c, x]) for x in range(X))
                    )
            y.append(sum(pixels) / len(pixels))
        total += -(y[labels[b]] - math.log(sum(math.exp(v) for v in y)))
    return total / len(maps)


def slow_diversity(maps, C):
    B, D, H, W = maps.shape
    X = D // C
    total = 0.0
    for b in range(B):
        for c in range(C):
            shares = []
            for x in range(X):
                e = [math.exp(float(v)) for v in maps[b, c * X + x].flatten()]
                shares.append([v / sum(e) for v in e])
            h = sum(max(shares[x][n] for x in range(X)) for n in range(H * W))
            assert 1 - 1e-6 <= h <= X + 1e-6
            total += h / X
    return 1 - total / (B * C)


@pytest.fixture
def maps():
    # 4 classes of 3 channels
    return torch.randn(3, 12, 4, 5, generator=torch.Generator().manual_seed(0)).relu()


def test_discriminality_is_the_loops(maps):
    mask = class_masks(4, 3, torch.Generator().manual_seed(1))
    labels = torch.tensor([3, 0, 2])
    assert discriminality(maps, mask, labels).item() == pytest.approx(
        slow_discriminality(maps, mask, labels), abs=1e-6
    )


def test_diversity_is_the_loops(maps):
    assert diversity(maps * 3, 4).item() == pytest.approx(slow_diversity(maps * 3, 4), abs=1e-6)


def test_diversity_of_equal_and_of_separate_channels():
    equal = torch.randn(2, 2, 1, 4, 4).expand(2, 2, 3, 4, 4).flatten(1, 2)
    assert diversity(equal, 2).item() == pytest.approx(1 - 1 / 3, abs=1e-6)
    apart = torch.full((1, 3, 1, 3), -50.0)
    for x in range(3):
        apart[0, x, 0, x] = 50.0
    assert diversity(apart, 1).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("channels", "ones"), [(1, 1), (2, 1), (3, 2), (6, 3), (9, 5)])
def test_masks_have_the_published_number_of_ones_and_change(channels, ones):
    generator = torch.Generator().manual_seed(0)
    first, second = class_masks(50, channels, generator), class_masks(50, channels, generator)
    assert (first.sum(1) == ones).all() and set(first.unique().tolist()) <= {0.0, 1.0}
    assert channels == 1 or not torch.equal(first, second)
    if channels > 1:  # every channel is left out now and then
        assert (first.mean(0) < 1).all() and (first.mean(0) > 0).all()


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (2, 3), (6, 9), (7, 13)])
def test_attention_gates_channels_of_the_same_class_for_any_ratio_of_strides(size):
    high = torch.randn(2, 2 * 3, 2, 3)  # 2 classes of 3 channels; the middle stage has 9 a class
    attention = top_down_attention(high, 3, size)
    assert attention.shape == (2, 18, *size)
    for channel in range(18):
        c, j = channel // 9, (channel % 9) // 3
        for i in range(size[0]):
            for k in range(size[1]):
                source = high[1, c * 3 + j, i * 2 // size[0], k * 3 // size[1]]
                assert attention[1, channel, i, k].item() == pytest.approx(
                    torch.sigmoid(source).item()
                )


def test_the_total_is_the_formula_with_gating_inside_the_middle_loss_only(make_encoder, batch):
    images, labels = batch
    encoder = make_encoder()
    head = build_head("tdsa", encoder, 3, hidden=8).eval()
    terms = head.loss(images, labels, generator=torch.Generator().manual_seed(5))
    maps = encoder(images, ("fine", "coarse")).maps
    mid, high = head.to_mid(maps["fine"]), head.to_high(maps["coarse"])
    generator = torch.Generator().manual_seed(5)
    masks = {"mid": class_masks(3, 9, generator), "high": class_masks(3, 3, generator)}
    gated = mid * top_down_attention(high, 3, mid.shape[-2:])
    assert mid.shape[-1] == 4 * high.shape[-1]
    expected = torch.nn.functional.cross_entropy(head(images), labels)
    for name, value in (("mid", gated), ("high", high)):
        expected = (
            expected + 1.5 * discriminality(value, masks[name], labels) + 15 * diversity(value, 3)
        )
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    ungated = build_head("tdsa", encoder, 3, hidden=8, gating=False).eval()
    ungated.load_state_dict(head.state_dict())
    assert torch.equal(ungated(images), head(images))
    plain = ungated.loss(images, labels, generator=torch.Generator().manual_seed(5))
    assert plain["mid_div"].item() == pytest.approx(diversity(mid, 3).item(), rel=1e-5)
    assert plain["mid_div"] != terms["mid_div"]


def test_gating_is_not_detached(make_encoder, batch):
    """The middle stage's loss must train the high stage."""
    head = build_head("tdsa", make_encoder(), 3, hidden=8).eval()
    terms = head.loss(*batch, generator=torch.Generator().manual_seed(0))
    terms["mid_div"].backward(retain_graph=True)
    assert head.to_high[0].weight.grad.abs().sum() > 0
    ungated = build_head("tdsa", make_encoder(), 3, hidden=8, gating=False).eval()
    ungated.loss(*batch)["mid_div"].backward()
    assert ungated.to_high[0].weight.grad is None


@pytest.mark.parametrize("function", ["discriminality", "diversity"])
def test_gradient_checks(function):
    maps = torch.randn(2, 6, 2, 2, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([[1.0, 1, 0], [0, 1, 1]])
    labels = torch.tensor([0, 1])
    loss = {
        "discriminality": lambda x: discriminality(x, mask, labels),
        "diversity": lambda x: diversity(x, 2),
    }[function]
    torch.autograd.gradcheck(loss, maps)


def test_stages_of_each_family(make_encoder):
    chosen = {
        family: (head.mid, head.high)
        for family in ("resnet", "mobilenet", "convnext", "vit")
        for head in [build_head("tdsa", make_encoder(family), 2, hidden=4)]
    }
    assert chosen == {
        "resnet": ("layer3", "layer4"),
        "mobilenet": ("stage4", "head"),
        "convnext": ("stage3", "stage4"),
        "vit": ("block3", "block5"),
    }


def test_the_papers_vgg_has_its_own_convolutions_widened(batch):
    torch.manual_seed(0)
    encoder = build_encoder("vgg16_bn")
    head = build_head("tdsa", encoder, 4, mid="stage4", high="stage5", widen=True, hidden=8, grid=2)
    layers = encoder.model.features
    assert [layers[i].out_channels for i in (30, 40)] == [36, 12]
    assert layers[34].in_channels == 36
    assert encoder.dims == {
        "stage1": 64,
        "stage2": 128,
        "stage3": 256,
        "stage4": 36,
        "stage5": 12,
        "stage6": 12,
    }
    maps = encoder(batch[0], ("stage4", "stage5")).maps
    assert maps["stage4"].shape == (4, 36, 8, 8) and maps["stage5"].shape == (4, 12, 4, 4)
    assert head(batch[0]).shape == (4, 4)
    with pytest.raises(ConfigError, match="pooling"):
        build_head("tdsa", build_encoder("vgg11_bn"), 2, high="stage6", mid="stage5", widen=True)
    with pytest.raises(ConfigError, match="VGG"):
        build_head("tdsa", build_encoder("resnet18", width=0.125), 2, widen=True)
