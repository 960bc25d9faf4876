"""The equivariance term against a re-sampling of every cell by hand."""

import math

import numpy as np
import pytest
import torch

from ssl_parts.objectives.equivariance import Equivariance
from ssl_parts.views import Views
from ssl_parts.views.config import CropConfig
from ssl_parts.views.geometry import make_theta, plan_crops

B, D, K, SIDE, TAU = 3, 5, 4, 4, 0.3


def case(seed=0, flip=0.5):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(2 * B, D, SIDE, SIDE, generator=g)
    ids = torch.randint(K - 1, (2 * B, SIDE, SIDE), generator=g)  # the last id is nowhere
    theta = plan_crops(2 * B, CropConfig(scale=[0.3, 0.8], flip=flip), g)
    return maps, Views(torch.zeros(0), ids, theta, torch.zeros(2 * B, K))


def term(maps, views):
    return Equivariance(TAU)(maps, views.ids_Ngg, views.theta_N23, K)


CELLS = [(v, r, c) for v in range(2) for r in range(SIDE) for c in range(SIDE)]


def mean_and_centres(maps, ids, b):
    """What the features of image b are compared with: their mean and the directions of the parts
    that are there.
    """
    feature = {(v, r, c): maps[v * B + b, :, r, c].numpy() for v, r, c in CELLS}
    mean = np.mean(list(feature.values()), 0)
    unit = {cell: (x - mean) / np.linalg.norm(x - mean) for cell, x in feature.items()}
    of_part = [[unit[v, r, c] for v, r, c in CELLS if ids[v * B + b, r, c] == k] for k in range(K)]
    return mean, {
        k: sum(rows) / np.linalg.norm(sum(rows)) for k, rows in enumerate(of_part) if rows
    }


def assignment(maps, mean, centres, b):
    """Shares (2,K,SIDE,SIDE) of image b, cell by cell."""
    feature = {(v, r, c): maps[v * B + b, :, r, c].numpy() for v, r, c in CELLS}
    unit = {cell: (x - mean) / np.linalg.norm(x - mean) for cell, x in feature.items()}
    shares = np.zeros((2, K, SIDE, SIDE))
    for v, r, c in CELLS:
        weights = {k: math.exp(unit[v, r, c] @ centre / TAU) for k, centre in centres.items()}
        for k, weight in weights.items():
            shares[v, k, r, c] = weight / sum(weights.values())
    return shares


def bilinear(values, x, y):
    """Values (K,SIDE,SIDE) at pixel coordinates (centres at whole numbers), border repeated."""
    x, y = min(max(x, 0), SIDE - 1), min(max(y, 0), SIDE - 1)
    left, top = int(x), int(y)
    total = 0
    for row, wy in ((top, 1 - (y - top)), (min(top + 1, SIDE - 1), y - top)):
        for column, wx in ((left, 1 - (x - left)), (min(left + 1, SIDE - 1), x - left)):
            total = total + wx * wy * values[:, row, column]
    return total


def by_hand(maps, views, compared_with=None):
    """The term, cell by cell; mean and centres are those of `compared_with`, or of the maps
    themselves.
    """
    compared_with = maps if compared_with is None else compared_with
    total, count = 0.0, 0
    for b in range(B):
        shares = assignment(maps, *mean_and_centres(compared_with, views.ids_Ngg, b), b)
        theta = [
            np.vstack([views.theta_N23[v * B + b].double().numpy(), [0, 0, 1]]) for v in range(2)
        ]
        for v, w in ((0, 1), (1, 0)):
            for r in range(SIDE):
                for c in range(SIDE):
                    here = [(2 * c + 1) / SIDE - 1, (2 * r + 1) / SIDE - 1, 1]
                    x, y, _ = np.linalg.solve(theta[w], theta[v] @ here)
                    if abs(x) > 1 or abs(y) > 1:
                        continue
                    there = bilinear(shares[w], ((x + 1) * SIDE - 1) / 2, ((y + 1) * SIDE - 1) / 2)
                    total += 0.5 * ((shares[v, :, r, c] - there) ** 2).sum()
                    count += 1
    return total / max(count, 1)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop_over_cells(seed):
    maps, views = case(seed)
    expected = by_hand(maps, views)
    assert 0.01 < expected < 1
    assert float(term(maps, views)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_gradient_is_that_of_finite_differences_with_mean_and_centres_held(seed):
    maps, views = case(seed)
    loss = term(maps.requires_grad_(), views)
    gradient = torch.autograd.grad(loss, maps)[0].double()
    maps = maps.detach().double()
    for number in range(3):
        towards = torch.randn(
            maps.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64
        )
        before, after = (
            by_hand(maps + h * towards, views, compared_with=maps) for h in (-1e-5, 1e-5)
        )
        expected = (after - before) / 2e-5
        assert abs(expected) > 1e-3
        assert float((gradient * towards).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("flipped", [False, True])
def test_two_crops_of_one_map_cost_nothing_and_pull_nowhere(flipped):
    g = torch.Generator().manual_seed(0)
    image, ids = torch.randn(1, D, 6, 6, generator=g), torch.randint(K - 1, (1, 6, 6), generator=g)
    share, at, turn = SIDE / 6, 1 - SIDE / 6, -1.0 if flipped else 1.0
    left_top = make_theta(*(torch.tensor([x]) for x in (share, share, -at, -at)))
    right = make_theta(*(torch.tensor([x]) for x in (turn * share, share, at, -at)))
    one, two = (image[..., :4, :4], ids[:, :4, :4]), (image[..., :4, 2:], ids[:, :4, 2:])
    if flipped:
        two = tuple(part.flip(-1) for part in two)
    maps, both_ids = (torch.cat(pair).contiguous() for pair in zip(one, two))
    views = Views(torch.zeros(0), both_ids, torch.cat([left_top, right]), torch.zeros(2, K))
    loss = term(maps.requires_grad_(), views)
    assert float(loss.detach()) < 1e-10
    assert float(torch.autograd.grad(loss, maps)[0].abs().max()) < 1e-5
    moved = maps.detach() + 0.3 * torch.randn(maps.shape, generator=g)
    assert float(term(moved, views)) > 1e-3


def test_a_map_that_moves_with_the_image_costs_nothing_and_one_that_does_not_costs():
    whole, mirrored = (
        make_theta(torch.tensor([w]), *map(torch.tensor, ([1.0], [0.0], [0.0])))
        for w in (1.0, -1.0)
    )
    one = torch.randn(1, D, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(SIDE).expand(1, SIDE, SIDE)
    for second, second_ids, cost in ((one.flip(-1), ids.flip(-1), False), (one, ids, True)):
        views = Views(
            torch.zeros(0),
            torch.cat([ids, second_ids]),
            torch.cat([whole, mirrored]),
            torch.zeros(2, K),
        )
        loss = float(term(torch.cat([one, second]), views))
        assert (loss > 0.05) if cost else (loss < 1e-8)


def test_views_that_do_not_overlap_give_zero_and_finite_gradients():
    left, right = (
        make_theta(*(torch.tensor([x]) for x in (0.3, 0.3, at, 0.0))) for at in (-0.7, 0.7)
    )
    maps = torch.randn(2, D, SIDE, SIDE, requires_grad=True)
    views = Views(
        torch.zeros(0),
        torch.zeros(2, SIDE, SIDE).long(),
        torch.cat([left, right]),
        torch.zeros(2, K),
    )
    loss = term(maps, views)
    loss.backward()
    assert float(loss.detach()) == 0 and torch.equal(maps.grad, torch.zeros_like(maps))


def test_gradient_reaches_both_views_and_bf16_is_read_in_full_precision():
    maps, views = case()
    maps.requires_grad_()
    term(maps, views).backward()
    assert all(float(part.abs().sum()) > 0 for part in maps.grad.chunk(2))
    coarse = maps.detach().bfloat16()
    torch.testing.assert_close(term(coarse, views), term(coarse.float(), views))
