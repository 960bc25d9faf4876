"""The harm monitor against brute force and on encoders that were and were not harmed."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ssl_parts.pretraining.harm import Drift, neighbours_kept, warnings_of


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
    assert neighbours_kept(first, second, 5) == pytest.approx(expected, abs=1e-6)
    assert neighbours_kept(first, 3 * first, 5) == 1.0


def test_what_is_said_and_what_is_not():
    fine = Drift(300, 100.0, 96.0, 0.8, 0.97)
    assert warnings_of(fine, {}, {}) == []
    assert warnings_of(fine, {"linear": 0.87}, {"linear": 0.75}) == [
        "linear fell from 87.0 to 75.0"
    ]
    said = warnings_of(Drift(300, 100.0, 40.0, 0.1, 0.3), {}, {})
    assert said[0].startswith("the effective rank of the features fell from 100 to 40")
    assert "only 10%" in said[1]
