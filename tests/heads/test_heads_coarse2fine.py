"""Coarse2Fine: pooling against loops, orthonormal rows, both stages, the path of gradients through
r.
"""

import math

import pytest
import torch

from evaluation.heads import build_head
from evaluation.heads.coarse2fine import (
    InverseMapping,
    attended_maps,
    bilinear_attention_pool,
    total_variation,
)


def test_pooling_is_the_loops():
    generator = torch.Generator().manual_seed(0)
    features, attention = (
        torch.randn(2, 3, 2, 4, generator=generator),
        torch.rand(2, 5, 2, 4, generator=generator),
    )
    pooled = bilinear_attention_pool(features, attention)
    for b in range(2):
        values = []
        for m in range(5):
            for d in range(3):
                v = (
                    sum(
                        float(features[b, d, i, j] * attention[b, m, i, j])
                        for i in range(2)
                        for j in range(4)
                    )
                    / 8
                )
                values.append(v / math.sqrt(abs(v) + 1e-6))
        length = math.sqrt(sum(v * v for v in values))
        assert pooled[b].tolist() == pytest.approx([v / length for v in values], abs=1e-5)


def test_signed_square_root_where_it_matters():
    features, attention = torch.tensor([[[[4.0]], [[-9.0]]]]), torch.ones(1, 1, 1, 1)
    assert bilinear_attention_pool(features, attention)[0].tolist() == pytest.approx(
        [2 / 13**0.5, -3 / 13**0.5], abs=1e-5
    )


def test_an_absent_attention_map_has_zeros_and_finite_gradients():
    features = torch.randn(1, 3, 2, 2, requires_grad=True)
    attention = torch.zeros(1, 2, 2, 2, requires_grad=True)
    pooled = bilinear_attention_pool(features, attention)
    pooled.sum().backward()
    assert (
        (pooled == 0).all()
        and torch.isfinite(attention.grad).all()
        and torch.isfinite(features.grad).all()
    )


def test_pooling_gradient():
    inputs = [
        torch.randn(1, 2, 2, 2, dtype=torch.double, requires_grad=True),
        torch.rand(1, 2, 2, 2, dtype=torch.double, requires_grad=True),
    ]
    torch.autograd.gradcheck(bilinear_attention_pool, inputs)
    torch.autograd.gradcheck(
        lambda r: total_variation(r), torch.rand(1, 1, 3, 3, dtype=torch.double, requires_grad=True)
    )


def test_attention_rows_start_orthonormal_unless_told_otherwise(make_encoder):
    for orthogonal in (True, False):
        head = build_head("coarse2fine", make_encoder("resnet"), 3, maps=16, orthogonal=orthogonal)
        rows = head.attention.weight.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(16), atol=1e-5) == orthogonal


def test_total_variation_is_the_loops():
    r = torch.rand(2, 1, 4, 5)
    down = [
        abs(float(r[b, 0, i + 1, j] - r[b, 0, i, j]))
        for b in range(2)
        for i in range(3)
        for j in range(5)
    ]
    across = [
        abs(float(r[b, 0, i, j + 1] - r[b, 0, i, j]))
        for b in range(2)
        for i in range(4)
        for j in range(4)
    ]
    assert total_variation(r).item() == pytest.approx(
        sum(down) / len(down) + sum(across) / len(across), rel=1e-5
    )


def test_both_stages_and_the_formula_of_the_second(make_encoder, batch):
    images, labels = batch
    head = build_head(
        "coarse2fine", make_encoder(), 3, maps=8, sparsity=0.1, smoothness=0.02
    ).eval()
    assert set(head.loss(images, labels, progress=0.49)) == {"loss", "coarse"}
    assert not head.fine_begun
    first = head(images)
    terms = head.loss(images, labels, progress=0.5)
    assert head.fine_begun
    features = head.encoder(images).maps["coarse"]
    attention = head.attention(features).relu()
    logits = head.classifier(100 * bilinear_attention_pool(features, attention))
    assert torch.equal(first, logits)
    r = head.inverse(attended_maps(features, attention), (64, 64))
    assert r.shape == (4, 1, 64, 64) and (r > 0).all() and (r < 1).all()
    mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    masked = torch.stack([r[b] * images[b] + (1 - r[b]) * mean for b in range(4)])
    features = head.encoder(masked).maps["coarse"]
    fine = head.classifier(100 * bilinear_attention_pool(features, head.attention(features).relu()))
    ce = torch.nn.functional.cross_entropy
    expected = ce(logits, labels) + ce(fine, labels) + 0.1 * r.mean() + 0.02 * total_variation(r)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    both = (logits.softmax(1) + fine.softmax(1)) / 2
    torch.testing.assert_close(head(images).exp(), both)


def test_the_fine_loss_reaches_the_attention_and_a_frozen_encoder_lets_it_through(
    make_encoder, batch
):
    head = build_head("coarse2fine", make_encoder("resnet"), 3, frozen=True, maps=8).train()
    images, _ = batch
    features = head.encoder(images).maps["layer4"]
    attended = attended_maps(features, head.attention(features).relu())
    r = head.inverse(attended, (64, 64))
    fine = head.encoder(head.cut(images, r)).pooled
    fine.square().sum().backward()
    assert head.attention.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in head.encoder.parameters())


def test_what_r_hides_does_not_matter(make_encoder):
    head = build_head("coarse2fine", make_encoder(), 3, maps=8)
    one, other = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    assert torch.equal(
        head.cut(one, torch.zeros(1, 1, 8, 8)), head.cut(other, torch.zeros(1, 1, 8, 8))
    )
    assert torch.equal(head.cut(one, torch.ones(1, 1, 8, 8)), one)


@pytest.mark.parametrize("stride", [4, 8, 14, 16, 32])
def test_inverse_mapping_reaches_the_image_from_any_stride(stride):
    r = InverseMapping(6, 16, stride)(torch.rand(2, 6, 3, 3), (3 * stride, 3 * stride))
    assert r.shape == (2, 1, 3 * stride, 3 * stride)


def test_the_second_stage_is_remembered_by_the_state_dict(make_encoder, batch):
    head = build_head("coarse2fine", make_encoder(), 3, maps=8).eval()
    head.loss(*batch, progress=1.0)
    again = build_head("coarse2fine", make_encoder(seed=3), 3, maps=8).eval()
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again(batch[0]), head(batch[0]))
