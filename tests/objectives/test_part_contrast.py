"""PartContrast against lightly's DetCon-B loss, InfoNCE by hand, and a loop written from the
formula.
"""

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DetConBLoss
from objectives.by_formula import by_formula
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_parts.errors import ConfigError
from ssl_parts.objectives import PartContrast, count_shared_parts


def random_case(b=3, m=4, d=8, k=5, repeat=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    q = tuple(
        torch.randn(b, m, d, generator=g, dtype=torch.float64).float().requires_grad_()
        for _ in range(2)
    )
    t = tuple(torch.randn(b, m, d, generator=g) for _ in range(2))
    if repeat:
        ids = tuple(torch.randint(k, (b, m), generator=g) for _ in range(2))
    else:
        ids = tuple(
            torch.stack([torch.randperm(k, generator=g)[:m] for _ in range(b)]) for _ in range(2)
        )
    valid = tuple(torch.ones(b, m, dtype=torch.bool) for _ in range(2))
    return q, t, ids, valid


@pytest.mark.parametrize("repeat", [True, False])
def test_equals_lightly_when_all_parts_are_present(repeat):
    q, t, ids, valid = random_case(repeat=repeat)
    ours = PartContrast(0.1)(q, t, ids, valid)
    theirs = DetConBLoss(0.1, gather_distributed=False)(*q, *t, *ids)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, q), torch.autograd.grad(theirs, q), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("local_negatives", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula_with_absent_parts(local_negatives, seed):
    q, t, ids, valid = random_case(seed=seed)
    g = torch.Generator().manual_seed(seed + 100)
    valid = tuple(torch.rand(v.shape, generator=g) > 0.35 for v in valid)
    ours = PartContrast(0.1, local_negatives)(q, t, ids, valid)
    assert float(ours.detach()) == pytest.approx(
        by_formula(q, t, ids, valid, local_negatives=local_negatives), rel=1e-5
    )


def test_one_part_an_image_is_info_nce_over_all_other_targets():
    q, t, ids, valid = random_case(b=6, m=1, k=1)
    expected = 0.0
    for this, other in ((0, 1), (1, 0)):
        anchors, pool = (
            F.normalize(q[this][:, 0], dim=1),
            F.normalize(torch.cat([t[other], t[this]])[:, 0], dim=1),
        )
        logits = anchors @ pool.T / 0.1
        logits[torch.arange(6), 6 + torch.arange(6)] = -torch.inf
        expected += F.cross_entropy(logits, torch.arange(6))
    torch.testing.assert_close(PartContrast(0.1)(q, t, ids, valid), expected)


def test_absent_parts_change_nothing():
    q, t, ids, valid = random_case(seed=3, repeat=False)
    valid[0][:, 1], valid[1][:, 2] = False, False
    loss = PartContrast()(q, t, ids, valid)
    other_q = [x.detach().clone() for x in q]
    other_t = [x.clone() for x in t]
    for side, column in ((0, 1), (1, 2)):
        other_q[side][:, column], other_t[side][:, column] = 50.0, -50.0
    torch.testing.assert_close(PartContrast()(tuple(other_q), tuple(other_t), ids, valid), loss)


def test_gradient_is_that_of_finite_differences():
    q, t, ids, valid = random_case(b=2, m=3, d=4, seed=5)
    valid[1][0, 0] = False
    loss = PartContrast(0.5)(q, t, ids, valid)
    gradient = torch.autograd.grad(loss, q[0])[0]
    for index in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        moved = []
        for step in (1e-2, -1e-2):
            shifted = q[0].detach().clone()
            shifted[index] += step
            moved.append(PartContrast(0.5)((shifted, q[1]), t, ids, valid).item())
        assert (moved[0] - moved[1]) / 2e-2 == pytest.approx(float(gradient[index]), abs=2e-3)


@pytest.mark.parametrize("empty", ["one view", "both views"])
def test_views_that_share_no_part_give_zero_and_finite_gradients(empty):
    q, t, ids, valid = random_case()
    valid[0][:] = False
    if empty == "both views":
        valid[1][:] = False
    loss = PartContrast()(q, t, ids, valid)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in q)


def test_shared_parts_counts_ids_present_in_both_views():
    ids = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[2, 0, 7], [6, 7, 8]])
    valid = (
        torch.ones(2, 3, dtype=torch.bool),
        torch.tensor([[True, True, True], [True, True, True]]),
    )
    assert count_shared_parts(ids, valid).tolist() == [2.0, 0.0]
    assert count_shared_parts(ids, (valid[0], torch.zeros(2, 3, dtype=torch.bool))).tolist() == [
        0.0,
        0.0,
    ]


def test_the_queue_adds_the_newest_valid_targets_of_earlier_steps_to_the_denominator():
    contrast, past = PartContrast(0.5, queue=14, channels=8), []
    for step in range(4):
        q, t, ids, valid = random_case(seed=step)
        g = torch.Generator().manual_seed(step)
        valid = tuple(torch.rand(v.shape, generator=g) > 0.5 for v in valid)
        loss = contrast(q, t, ids, valid)
        assert float(loss.detach()) == pytest.approx(
            by_formula(q, t, ids, valid, 0.5, past=past), rel=1e-5
        )
        newest = [
            t[v][b, m] for b in range(3) for v in range(2) for m in range(4) if valid[v][b, m]
        ]
        past = (newest + past)[:14]
    assert len(past) == 14
    assert not contrast.queue.rows_QD.requires_grad and list(contrast.state_dict()) == [
        "queue.rows_QD",
        "queue.filled_Q",
    ]


@pytest.mark.parametrize("own_targets", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"local_negatives": False}, {"queue": 9, "channels": 8}], ids=str
)
def test_chunks_of_anchors_change_neither_loss_nor_gradients(options, own_targets):
    # logits of its anchors: chunks of 1, 2 and 3 of the 7 images, the last one shorter
    one_image = 4 * 2 * 7 * 4
    losses = {n: PartContrast(0.1, **options, logits_at_once=n * one_image) for n in (1, 2, 3, 7)}
    for seed in range(2):  # the second step meets a filled queue
        q, t, ids, valid = random_case(b=7, seed=seed)
        valid = tuple(
            torch.rand(v.shape, generator=torch.Generator().manual_seed(seed)) > 0.3 for v in valid
        )
        found = {n: loss(q, q if own_targets else t, ids, valid) for n, loss in losses.items()}
        gradients = {n: torch.autograd.grad(value, q) for n, value in found.items()}
        for n in (1, 2, 3):
            torch.testing.assert_close(found[n], found[7], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(gradients[n], gradients[7], rtol=1e-5, atol=1e-6)


def test_chunks_equal_lightly():
    q, t, ids, valid = random_case(b=5)
    ours = PartContrast(0.1, logits_at_once=1)(q, t, ids, valid)
    theirs = DetConBLoss(0.1, gather_distributed=False)(*q, *t, *ids)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, q), torch.autograd.grad(theirs, q), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation gives, and how many matrix products."""

    elements = products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.products += function is torch.ops.aten.mm.default
        self.elements = max(self.elements, out.numel() if isinstance(out, torch.Tensor) else 0)
        return out


def test_no_tensor_is_larger_than_a_chunk_and_what_fits_is_computed_once():
    q, t, ids, valid = random_case(b=32, m=8)
    matrix = 32 * 8 * 2 * 32 * 8
    seen = {}
    for n in (1, 4):
        with Largest() as seen[n]:
            PartContrast(logits_at_once=matrix // n)(q, t, ids, valid).backward()
    assert (seen[1].elements, seen[4].elements) == (matrix, matrix // 4)
    assert seen[1].products == 4  # forward and gradient, of each view
    assert seen[4].products == 2 * 4 * 3  # and forward once more


def test_temperature_must_be_positive():
    with pytest.raises(ConfigError, match=r"temperature is 0"):
        PartContrast(temperature=0)
