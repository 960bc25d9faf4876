"""SCRIM: contrast, ranking and the choice of regions against loops over anchors, classes, modules
and regions.
"""

import math

import pytest
import torch
from torchvision.ops import box_iou

from evaluation.heads import build_head
from evaluation.heads.regions import attention_inside, choose_apart, crop_boxes, square_anchors
from evaluation.heads.scrim import (
    GatedAttention,
    class_module_contrast,
    n_pair,
    ranking_hinge,
    region_losses,
)


def slow_contrast(parts, labels, temperature):
    """The docstring of class_module_contrast, read word by word."""
    B, G, _ = parts.shape
    anchors = [(b, g) for b in range(B) for g in range(G)]
    unit = {(b, g): parts[b, g].double() / parts[b, g].double().norm() for b, g in anchors}
    total = 0.0
    for number in (1, 2, 3):
        values = []
        for i, g in anchors:
            positives, negatives = [], []
            for j, h in anchors:
                same_class, same_module = labels[i] == labels[j], g == h
                if (i, g) == (j, h):
                    continue
                if number == 1:
                    (positives if same_class and same_module else negatives).append((j, h))
                elif not same_class and not same_module:
                    negatives.append((j, h))
                elif same_class != same_module and same_module == (number == 2):
                    positives.append((j, h))
            if positives and negatives:
                s = {k: float(unit[i, g] @ unit[k]) / temperature for k in positives + negatives}
                logs = [
                    math.log1p(sum(math.exp(s[n] - s[p]) for n in negatives)) for p in positives
                ]
                values.append(sum(logs) / len(logs))
        total += sum(values) / len(values) if values else 0.0
    return total


@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1, 2], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4], [1, 1, 1, 0, 1]]
)
@pytest.mark.parametrize("modules", [1, 2, 3])
def test_contrast_is_the_loops(labels, modules):
    parts = torch.randn(5, modules, 6, generator=torch.Generator().manual_seed(0))
    fast = class_module_contrast(parts, torch.tensor(labels), 0.3)
    assert fast.item() == pytest.approx(slow_contrast(parts, labels, 0.3), rel=1e-4, abs=1e-6)


def test_contrast_falls_when_classes_and_modules_come_together():
    labels = torch.tensor([0, 0, 1, 1])
    corners = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]).view(2, 2, 4)
    sorted_by_both = corners[labels]
    mixed = sorted_by_both[[0, 2, 1, 3]]
    assert class_module_contrast(sorted_by_both, labels, 0.1) < class_module_contrast(
        mixed, labels, 0.1
    )


def test_contrast_gradient():
    parts = torch.randn(4, 2, 3, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    torch.autograd.gradcheck(lambda p: class_module_contrast(p, labels, 0.5), parts)
    lone = torch.randn(2, 1, 3, requires_grad=True)
    class_module_contrast(lone, torch.tensor([0, 1]), 0.1).backward()
    assert torch.isfinite(lone.grad).all()


def test_n_pair_without_negatives_is_zero_with_zero_gradient():
    similarity = torch.randn(3, 3, requires_grad=True)
    none = torch.zeros(3, 3, dtype=torch.bool)
    value = n_pair(similarity, ~torch.eye(3, dtype=torch.bool), none)
    value.backward()
    assert value == 0 and (similarity.grad == 0).all()


def test_ranking_is_the_loops_and_trains_scores_only():
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(3, 2, 4, generator=generator, requires_grad=True)
    losses = torch.rand(3, 2, 4, generator=generator, requires_grad=True)
    valid = torch.rand(3, 2, 4, generator=generator) > 0.3
    total, pairs = 0.0, 0
    for b in range(3):
        for g in range(2):
            for i in range(4):
                for j in range(4):
                    if valid[b, g, i] and valid[b, g, j] and losses[b, g, i] < losses[b, g, j]:
                        total += max(0.0, 0.7 - (scores[b, g, i] - scores[b, g, j]).item())
                        pairs += 1
    value = ranking_hinge(scores, losses, valid, 0.7)
    assert value.item() == pytest.approx(total / pairs, rel=1e-5)
    double = scores.detach().double().requires_grad_()
    torch.autograd.gradcheck(lambda s: ranking_hinge(s, losses.detach(), valid, 0.7), double)
    value.backward()
    assert losses.grad is None and scores.grad.abs().sum() > 0
    assert ranking_hinge(scores, losses, torch.zeros_like(valid)) == 0


def test_ranking_pushes_the_telling_region_up():
    scores = torch.zeros(1, 1, 2, requires_grad=True)
    ranking_hinge(
        scores, torch.tensor([[[0.1, 2.0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    ).backward()
    assert scores.grad[0, 0, 0] < 0 < scores.grad[0, 0, 1]


def test_region_losses_are_each_regions_own():
    logits, labels = torch.randn(2, 3, 5), torch.tensor([4, 1])
    losses = region_losses(logits, labels)
    for b in range(2):
        for r in range(3):
            assert losses[b, r].item() == pytest.approx(
                -logits[b, r].log_softmax(0)[labels[b]].item(), rel=1e-5
            )


def test_gated_attention_is_the_formula_and_sums_to_one():
    torch.manual_seed(0)
    module, x = GatedAttention(5, 4), torch.randn(2, 5, 3, 2)
    attention = module(x)
    v, u = (layer.weight[:, :, 0, 0] for layer in (module.value, module.gate))
    w = module.score.weight[0, :, 0, 0]
    for b in range(2):
        scores = []
        for i in range(3):
            for j in range(2):
                f = x[b, :, i, j]
                hidden = torch.tanh(v @ f + module.value.bias) * torch.sigmoid(
                    u @ f + module.gate.bias
                )
                scores.append(w @ hidden + module.score.bias[0])
        torch.testing.assert_close(attention[b].flatten(), torch.stack(scores).softmax(0))
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(2))


def test_anchors_are_squares_inside_around_their_cells():
    anchors = square_anchors(2, 4, [0.2, 0.6])
    assert anchors.shape == (16, 4)
    assert (anchors >= 0).all() and (anchors <= 1).all()
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(
        sides, torch.tensor([0.2, 0.6]).repeat_interleave(8)[:, None].expand(16, 2)
    )
    # row 1, column 1: (3/8, 3/4)
    torch.testing.assert_close(anchors[5], torch.tensor([0.275, 0.65, 0.475, 0.85]))
    torch.testing.assert_close(anchors[0, :2], torch.tensor([0.025, 0.15]))


def test_attention_inside_counts_cut_cells_by_area():
    attention = torch.rand(2, 4, 4)
    boxes = torch.tensor([[0.1, 0.2, 0.65, 0.9], [0.0, 0.0, 1.0, 1.0]])
    # pixels of 1/800
    fine = attention.repeat_interleave(200, 1).repeat_interleave(200, 2) / 200**2
    for b in range(2):
        for a in range(2):
            x0, y0, x1, y1 = (round(float(v) * 800) for v in boxes[a])
            expected = fine[b, y0:y1, x0:x1].sum().item()
            assert attention_inside(attention, boxes)[b, a].item() == pytest.approx(
                expected, rel=1e-3
            )


def slow_choice(scores, overlap, count, limit):
    """One image: groups in turn take their best anchor that keeps apart from all taken, else the
    best untaken one.
    """
    G, A = scores.shape
    taken, picks, valid = [], [[] for _ in range(G)], [[] for _ in range(G)]
    for _ in range(count):
        for g in range(G):
            order = sorted(
                (a for a in range(A) if a not in taken), key=lambda a: -float(scores[g, a])
            )
            apart = [a for a in order if all(overlap[a, t] <= limit for t in taken)]
            pick = apart[0] if apart else order[0]
            valid[g].append(bool(apart))
            picks[g].append(pick)
            taken.append(pick)
    return picks, valid


@pytest.mark.parametrize("limit", [0.0, 0.25, 1.0])
def test_choice_of_regions_is_the_loops(limit):
    anchors = square_anchors(4, 4, [0.4, 0.6])
    overlap = box_iou(anchors, anchors)
    scores = torch.randn(6, 2, len(anchors), generator=torch.Generator().manual_seed(0))
    picks, valid = choose_apart(scores, overlap, 4, limit)
    invalid_seen = False
    for b in range(6):
        expected = slow_choice(scores[b], overlap, 4, limit)
        assert (picks[b].tolist(), valid[b].tolist()) == expected
        invalid_seen |= not all(map(all, expected[1]))
        good = anchors[picks[b][valid[b]]]
        pairs = box_iou(good, good) - torch.eye(len(good))
        assert (pairs <= limit + 1e-6).all()
    assert invalid_seen == (limit < 1)


def test_crops_show_their_box():
    y, x = torch.meshgrid(
        (torch.arange(40) + 0.5) / 40, (torch.arange(40) + 0.5) / 40, indexing="ij"
    )
    images = torch.stack([x, y, x * 0])[None]
    boxes = torch.tensor([[[0.25, 0.5, 0.5, 0.75], [0.0, 0.0, 1.0, 1.0]]])
    crops = crop_boxes(images, boxes, 10)
    assert crops.shape == (2, 3, 10, 10)
    expected = 0.25 + 0.25 * (torch.arange(10) + 0.5) / 10
    torch.testing.assert_close(crops[0, 0, 4], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(crops[0, 1, :, 4], expected + 0.25, atol=1e-4, rtol=0)


def test_the_total_is_the_sum_of_its_terms_and_absent_regions_do_not_count(make_encoder, batch):
    head = build_head("scrim", make_encoder(), 3, sides=[0.9], regions=2, overlap=0.0).eval()
    images, labels = batch
    seen = head._encode(images)
    assert seen.valid_BR.sum(1).tolist() == [1] * 4  # one region of 0.9 leaves no room for another
    terms = head.loss(images, labels)
    expected = (
        terms["all"]
        + terms["global"]
        + terms["regions"]
        + terms["ranking"]
        + 0.5 * terms["contrast"]
    )
    assert terms["loss"].item() == pytest.approx(expected.item())
    own = region_losses(head.region_classifier(seen.regions_BRD), labels)
    assert terms["regions"].item() == pytest.approx(own[:, 0].mean().item(), rel=1e-5)
    assert terms["ranking"] == 0


def test_navigator_is_trained_by_the_ranking_alone(make_encoder, batch):
    head = build_head("scrim", make_encoder("resnet"), 3).eval()
    terms = head.loss(*batch)
    parameters = list(head.navigators.parameters())
    rest = terms["all"] + terms["global"] + terms["regions"] + terms["contrast"]
    assert all(
        g is None
        for g in torch.autograd.grad(rest, parameters, retain_graph=True, allow_unused=True)
    )
    encoder = [p for p in head.encoder.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(terms["ranking"], encoder, retain_graph=True, allow_unused=True)
    assert all(g is None for g in gradients)  # the navigator reads the detached map
    terms["ranking"].backward()
    assert any(p.grad.abs().sum() > 0 for p in parameters)


def test_attention_raises_scores_of_regions_around_it(make_encoder):
    head = build_head("scrim", make_encoder(), 3, modules=1, regions=1, attention_gain=50.0)
    attention = torch.zeros(1, 1, 8, 8)
    attention[0, 0, 6, 1] = 1.0
    boxes, _, _ = head._regions(torch.rand(1, 12, 8, 8), attention)
    x0, y0, x1, y1 = boxes[0, 0].tolist()
    assert x0 <= 1.5 / 8 <= x1 and y0 <= 6.5 / 8 <= y1
    assert x1 - x0 == pytest.approx(0.3)  # the smallest side holds it all


def test_one_module_has_one_group(make_encoder, batch):
    head = build_head("scrim", make_encoder(), 3, modules=1, regions=1).eval()
    found = head.localize(batch[0])
    assert set(found.maps) == {"attention 1"} and found.boxes["regions 1"].shape == (4, 1, 4)
