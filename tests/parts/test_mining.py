from itertools import combinations

import pytest
import torch
from parts_stand_ins import DiscBank

from ssl_parts.parts import DatasetConfig, MiningConfig, PerImageConfig, discover_parts
from ssl_parts.parts.foreground.mining import (
    mining_scores,
    pair_support,
    support_map,
    transactions,
)


def random_map(seed=0):
    return torch.randn(2, 30, 3, 4, generator=torch.Generator().manual_seed(seed))


def test_transactions_hold_cells_above_the_mean_positive_activation():
    features = torch.tensor([[[1.0, -4], [3, 0]], [[0, 0], [2, -1]]])[None]
    # the mean is 2
    assert transactions(features)[0].tolist() == [[False, False, True, False], [False] * 4]
    assert not transactions(-torch.ones(1, 3, 2, 2)).any()


def test_frequent_pairs_against_enumeration():
    features = random_map()
    items = transactions(features)
    for b in range(2):
        baskets = [set(row.nonzero()[:, 0].tolist()) for row in items[b]]
        counts = {
            pair: sum(set(pair) <= basket for basket in baskets)
            for pair in combinations(range(12), 2)
        }
        singles = [sum(cell in basket for basket in baskets) for cell in range(12)]
        support = pair_support(items)[b]
        assert all(support[i, j].item() == pytest.approx(n / 30) for (i, j), n in counts.items())
        mass = [0.0] * 12
        for (i, j), n in counts.items():
            if n >= 0.5 * max(singles):
                mass[i] += n
                mass[j] += n
        expected = torch.tensor(mass) / max(*mass, 1e-9)
        assert torch.allclose(support_map(features, 0.5)[b].flatten(), expected, atol=1e-6)


def test_nothing_frequent_is_nothing():
    assert (support_map(-torch.ones(1, 4, 3, 3), 0.5) == 0).all()
    assert torch.isfinite(mining_scores(torch.zeros(1, 4, 3, 3), 0.5)).all()


class Detector(torch.nn.Module):
    """Many channels that fire on saturated colours, as those of a trained network fire on objects."""

    name, stages, last_stage = "detector", ("fine", "coarse"), "coarse"
    dims, strides = {"fine": 24, "coarse": 24}, {"fine": 2, "coarse": 4}

    def forward(self, images, stages):
        from types import SimpleNamespace

        saturation = images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
        gains = torch.linspace(0.5, 1.5, 24).view(1, 24, 1, 1)
        active = torch.relu(gains * saturation - 0.2)
        pooled = {s: torch.nn.functional.avg_pool2d(active, self.strides[s]) for s in self.stages}
        return SimpleNamespace(maps={s: pooled[s] for s in stages})

    def check_stages(self, stages):
        return tuple(stages)


@pytest.mark.parametrize("kind", [PerImageConfig, DatasetConfig])
def test_mining_as_foreground_of_a_discovery(kind):
    bank = DiscBank()
    config = kind(k=2, size=16, position=0.5, foreground=MiningConfig(size=16))
    store = discover_parts(Detector(), bank, config)
    front, true = store.batch(range(20)) > 0, bank.masks[:, ::2, ::2] > 0
    overlap = ((front & true).sum((1, 2)) / (front | true).sum((1, 2))).mean()
    assert overlap > 0.7
