"""The equivariance term against a re-sampling of every cell by hand."""

import math

import numpy as np
import pytest
import torch

from ssl_parts.objectives.equivariance import Equivariance
from ssl_parts.views import Views
from ssl_parts.views.geometry import CropConfig, crop_theta, random_crops

B, D, K, SIDE, TAU = 3, 5, 4, 4, 0.3


def case(seed=0, flip=0.5):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(2 * B, D, SIDE, SIDE, generator=g)
    ids = torch.randint(K - 1, (2 * B, SIDE, SIDE), generator=g)  # the last id is nowhere
    theta = random_crops(2 * B, CropConfig(scale=[0.3, 0.8], flip=flip), g)
    return maps, Views(torch.zeros(0), ids, theta, torch.zeros(2 * B, K))


def assignment(maps, ids, b):
    """Shares (2,K,SIDE,SIDE) of image b, cell by cell."""
    cells = [(v, r, c) for v in range(2) for r in range(SIDE) for c in range(SIDE)]
    feature = {(v, r, c): maps[v * B + b, :, r, c].numpy() for v, r, c in cells}
    mean = np.mean(list(feature.values()), 0)
    unit = {cell: (x - mean) / np.linalg.norm(x - mean) for cell, x in feature.items()}
    shares = np.zeros((2, K, SIDE, SIDE))
    of_part = [[unit[v, r, c] for v, r, c in cells if ids[v * B + b, r, c] == k] for k in range(K)]
    centres = {k: sum(rows) / np.linalg.norm(sum(rows)) for k, rows in enumerate(of_part) if rows}
    for v, r, c in cells:
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


def by_hand(maps, views):
    total, count = 0.0, 0
    for b in range(B):
        shares = assignment(maps, views.ids_Ngg, b)
        theta = [np.vstack([views.theta_N23[v * B + b].double().numpy(), [0, 0, 1]]) for v in range(2)]
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
    assert float(Equivariance(TAU)(maps, views)) == pytest.approx(expected, rel=1e-4)


def test_a_map_that_moves_with_the_image_costs_nothing_and_one_that_does_not_costs():
    whole, mirrored = (crop_theta(torch.tensor([w]), *map(torch.tensor, ([1.0], [0.0], [0.0]))) for w in (1.0, -1.0))
    one = torch.randn(1, D, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(SIDE).expand(1, SIDE, SIDE)
    for second, second_ids, cost in ((one.flip(-1), ids.flip(-1), False), (one, ids, True)):
        views = Views(torch.zeros(0), torch.cat([ids, second_ids]), torch.cat([whole, mirrored]), torch.zeros(2, K))
        loss = float(Equivariance(TAU)(torch.cat([one, second]), views))
        assert (loss > 0.05) if cost else (loss < 1e-8)


def test_views_that_do_not_overlap_give_zero_and_finite_gradients():
    left, right = (crop_theta(*(torch.tensor([x]) for x in (0.3, 0.3, at, 0.0))) for at in (-0.7, 0.7))
    maps = torch.randn(2, D, SIDE, SIDE, requires_grad=True)
    views = Views(torch.zeros(0), torch.zeros(2, SIDE, SIDE).long(), torch.cat([left, right]), torch.zeros(2, K))
    loss = Equivariance(TAU)(maps, views)
    loss.backward()
    assert float(loss.detach()) == 0 and torch.equal(maps.grad, torch.zeros_like(maps))


def test_gradient_reaches_both_views_and_bf16_is_read_in_full_precision():
    maps, views = case()
    maps.requires_grad_()
    Equivariance(TAU)(maps, views).backward()
    assert all(float(part.abs().sum()) > 0 for part in maps.grad.chunk(2))
    coarse = maps.detach().bfloat16()
    torch.testing.assert_close(Equivariance(TAU)(coarse, views), Equivariance(TAU)(coarse.float(), views))
