"""What all heads must do on all families: shapes, gradients, one class, one image, one-class
batches, frozen, bf16.
"""

import pytest
import torch

from evaluation.heads import HEADS, build_head
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import ConfigError
from tests.heads.conftest import FAMILIES


def small(name: str) -> dict:
    return {"coarse2fine": {"maps": 8}, "tdsa": {"hidden": 16}}.get(name, {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_and_classifies_on_every_family(name, family, make_encoder, batch):
    images, labels = batch
    head = build_head(name, make_encoder(family), 3, **small(name)).train()
    terms = head.loss(images, labels, generator=torch.Generator().manual_seed(0))
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    terms["loss"].backward()
    moved = [p for p in head.parameters() if p.grad is not None]
    assert all(torch.isfinite(p.grad).all() for p in moved)
    assert any(p.grad.abs().sum() > 0 for p in head.encoder.parameters() if p.grad is not None)
    with torch.no_grad():
        logits = head.eval()(images)
    assert logits.shape == (4, 3) and torch.isfinite(logits).all()


@pytest.mark.parametrize("name", HEADS)
def test_one_class_one_image_and_a_batch_of_one_class(name, make_encoder, batch):
    images, _ = batch
    head = build_head(name, make_encoder(), 1, **small(name)).train()
    one = head.loss(images[:1], torch.tensor([0]))
    assert torch.isfinite(one["loss"])
    assert head(images[:1]).shape == (1, 1)
    head = build_head(name, make_encoder(), 3, **small(name)).train()
    same = head.loss(images, torch.full((4,), 2))
    same["loss"].backward()
    assert torch.isfinite(same["loss"])
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HEADS)
def test_a_black_batch_has_no_region_and_no_nan(name, make_encoder, batch):
    """All-zero maps: nothing to attend to, nothing to mine."""
    encoder = make_encoder()
    for layer in encoder.model:
        torch.nn.init.constant_(layer.bias, -10.0)
    head = build_head(name, encoder, 3, **small(name)).train()
    loss = head.loss(torch.zeros_like(batch[0]), batch[1])["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HEADS)
def test_frozen_encoder_keeps_weights_and_statistics(name, make_encoder, batch):
    head = build_head(name, make_encoder("resnet"), 3, frozen=True, **small(name))
    before = {k: v.clone() for k, v in head.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1)
    head.train().loss(*batch)["loss"].backward()
    optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in head.encoder.state_dict().items())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_bf16_is_near_fp32_and_its_loss_is_fp32(name, make_encoder, batch):
    head = build_head(name, make_encoder("resnet"), 3, frozen=True, **small(name)).train()
    full = head.loss(*batch, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        half = head.loss(*batch, generator=torch.Generator().manual_seed(0))
    assert half["loss"].dtype == torch.float32
    assert half["loss"].item() == pytest.approx(full["loss"].item(), rel=0.05)
    half["loss"].backward()


@pytest.mark.parametrize("name", HEADS)
def test_a_step_down_the_gradient_lowers_the_loss(name, make_encoder, batch):
    # fixed statistics: one smooth function
    head = build_head(name, make_encoder("resnet"), 3, **small(name)).eval()
    seeded = {"generator": torch.Generator().manual_seed(0)}
    before = head.loss(*batch, **seeded)["loss"]
    before.backward()
    norm = sum(p.grad.square().sum() for p in head.parameters() if p.grad is not None).sqrt()
    with torch.no_grad():
        for p in head.parameters():
            if p.grad is not None:
                p -= 1e-3 * p.grad / norm
    after = head.loss(*batch, generator=torch.Generator().manual_seed(0))["loss"]
    assert after.item() == pytest.approx(
        (before - 1e-3 * norm).item(), rel=1e-2, abs=2e-4 * norm.item()
    )


@pytest.mark.parametrize("name", HEADS)
def test_an_image_is_classified_alike_alone_and_in_a_batch(name, make_encoder, batch):
    head = build_head(name, make_encoder("strided_resnet"), 3, **small(name)).eval()
    with torch.no_grad():
        together = head(batch[0])
        alone = torch.cat([head(image[None]) for image in batch[0]])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_localization_is_in_shares_of_the_image(name, make_encoder, batch):
    found = build_head(name, make_encoder("resnet"), 3, **small(name)).eval().localize(batch[0])
    assert found.maps
    assert all(m.ndim == 3 and len(m) == 4 and (m >= 0).all() for m in found.maps.values())
    for key, boxes in found.boxes.items():
        assert boxes.shape[:2] == found.valid[key].shape and boxes.shape[2] == 4
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[..., 2:] > boxes[..., :2]).all()


def test_bad_names_and_options_are_named(make_encoder):
    with pytest.raises(ConfigError, match="did you mean 'scrim'"):
        build_head("scrimm", make_encoder(), 3)
    with pytest.raises(ConfigError, match="no option 'gatingg', did you mean 'gating'"):
        build_head("tdsa", make_encoder(), 3, gatingg=True)
    with pytest.raises(ConfigError, match="classes=0"):
        build_head("linear", make_encoder(), 0)
    with pytest.raises(ConfigError, match="at most 12"):
        build_head("coarse2fine", make_encoder(), 3, maps=13)
    with pytest.raises(ConfigError, match="multiple"):
        build_head("tdsa", make_encoder(), 3, mid_channels=4)
    with pytest.raises(ConfigError, match="stage"):
        build_head("tdsa", build_encoder("resnet18", width=0.125), 3, mid="layer9")
    with pytest.raises(ConfigError, match="sides"):
        build_head("scrim", make_encoder(), 3, sides=[0.0])


def test_more_regions_than_anchors_is_said(make_encoder):
    head = build_head("scrim", make_encoder(), 3, regions=4)
    with pytest.raises(ConfigError, match="anchors"):
        head(torch.rand(1, 3, 8, 8))
