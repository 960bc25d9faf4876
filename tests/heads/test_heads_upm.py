"""UPM: streams, both ways to join them against loops, and that no label can move a box."""

import math

import pytest
import torch

from evaluation.heads import build_head
from evaluation.heads.upm import Fusion, Streams, stream_loss, weighted_vote


def test_vote_is_the_loops():
    generator = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(3, 4, 5, generator=generator), torch.randn(4, generator=generator)
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 0, 0]]).bool()
    voted = weighted_vote(logits, weights, valid)
    for b in range(3):
        there = [s for s in range(4) if valid[b, s]]
        norm = sum(math.exp(float(weights[s])) for s in there)
        for c in range(5):
            p = sum(
                math.exp(float(weights[s])) / norm * float(logits[b, s].softmax(0)[c])
                for s in there
            )
            assert voted[b, c].item() == pytest.approx(math.log(p), abs=1e-5)


def test_stream_loss_is_the_loops():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([1, 3])
    valid = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    terms = [
        -float(logits[b, s].log_softmax(0)[labels[b]])
        for b in range(2)
        for s in range(3)
        if valid[b, s]
    ]
    assert stream_loss(logits, labels, valid).item() == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_vote_gradient():
    logits = torch.randn(2, 3, 2, dtype=torch.double, requires_grad=True)
    weights = torch.randn(3, dtype=torch.double, requires_grad=True)

    valid = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    torch.autograd.gradcheck(lambda x, w: weighted_vote(x, w, valid), (logits, weights))
    torch.autograd.gradcheck(lambda x: stream_loss(x, torch.tensor([0, 1]), valid), logits)


@pytest.mark.parametrize("fusion", ["concat", "vote"])
@pytest.mark.parametrize("streams", ["shared", "separate"])
def test_total_and_encoders(fusion, streams, make_encoder, batch):
    head = build_head(
        "upm", make_encoder("resnet"), 3, fusion=Fusion[fusion], streams=Streams[streams]
    ).eval()
    terms = head.loss(*batch)
    assert terms["loss"].item() == pytest.approx((terms["joined"] + 0.5 * terms["streams"]).item())
    logits = head(batch[0])
    assert terms["joined"].item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, batch[1]).item(), rel=1e-5
    )
    assert len(head.encoders()) == (1 if streams == "shared" else 3)
    terms["loss"].backward()
    for encoder in head.encoders():
        assert sum(p.grad.abs().sum() for p in encoder.parameters() if p.grad is not None) > 0


def test_training_never_moves_a_box(make_encoder, batch):
    images, labels = batch
    head = build_head("upm", make_encoder("resnet"), 3).train()
    before = head.mine(images)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        head.loss(images, labels)["loss"].backward()
        optimizer.step()
    after = head.mine(images)
    assert torch.equal(before[0].boxes_B4, after[0].boxes_B4) and torch.equal(before[1], after[1])
    assert any((p != q).any() for p, q in zip(head.encoder.parameters(), head.miner.parameters()))


def test_labels_do_not_reach_the_mining(make_encoder, batch):
    head = build_head("upm", make_encoder("resnet"), 3).train()
    head.loss(*batch)["loss"].backward()
    assert all(p.grad is None for p in head.miner.parameters())


def test_an_absent_part_has_zeros_in_the_joined_features(make_encoder, batch):
    head = build_head("upm", make_encoder(), 3).eval()
    features = torch.randn(2, 4, 12)
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    other = features.clone()
    other[0, 3] = 99.0
    one, two = (head._join(f, head._each(f), valid) for f in (features, other))
    assert torch.equal(one, two)
