"""The harm monitor against brute force and on encoders that were and were not harmed."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ssl_parts.pretraining.harm import Drift, compare_neighbours, describe_harm


def test_neighbours_kept_is_the_overlap_of_sklearns_lists():
    g = torch.Generator().manual_seed(0)
    first = torch.randn(60, 8, generator=g)
    second = first + 0.7 * torch.randn(60, 8, generator=g)
    lists = []
    for x in (first, second):
        found = (
            NearestNeighbors(n_neighbors=6, metric="cosine")
            .fit(x.numpy())
            .kneighbors(return_distance=False)
        )
        lists.append(found[:, 1:] if (found[:, 0] == np.arange(60)).all() else found[:, :5])
    expected = np.mean([len(set(a[:5]) & set(b[:5])) / 5 for a, b in zip(*lists)])
    assert compare_neighbours(first, second, 5) == pytest.approx(expected, abs=1e-6)
    assert compare_neighbours(first, 3 * first, 5) == 1.0


def test_each_regression_is_one_sentence_and_small_losses_are_none():
    before, after = {"linear": 0.87, "part mIoU": 0.5}, {"linear": 0.75, "part mIoU": 0.495}
    fine = Drift(300, 100.0, 96.0, 0.8, 0.97)
    assert describe_harm(fine, {}, {}) == []
    assert describe_harm(fine, before, after) == ["linear fell from 87.0 to 75.0"]
    found = describe_harm(Drift(300, 100.0, 40.0, 0.1, 0.3), {}, after)
    assert found[0].startswith("the effective rank of the features fell from 100 to 40")
    assert "only 10%" in found[1]
