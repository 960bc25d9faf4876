"""Statistics of features against closed forms."""

import math

import numpy as np
import pytest
import torch

from ssl_parts.engine.statistics import feature_std, part_entropy, rank_me


def test_rank_me_of_known_spectra():
    assert float(rank_me(torch.eye(6))) == pytest.approx(6, rel=1e-3)
    assert float(rank_me(torch.ones(5, 4))) == pytest.approx(1, rel=1e-2)
    p = torch.tensor([3.0, 1.0]) / 4
    expected = math.exp(-float((p * p.log()).sum()))
    assert float(rank_me(torch.diag(torch.tensor([3.0, 1.0])))) == pytest.approx(expected, rel=1e-3)


def test_feature_std_is_one_for_a_sphere_and_zero_for_a_point():
    g = torch.Generator().manual_seed(0)
    assert float(feature_std(torch.randn(4000, 16, generator=g))) == pytest.approx(1, abs=0.02)
    assert float(feature_std(torch.ones(10, 16))) == pytest.approx(0, abs=1e-6)


def test_part_entropy_is_that_of_the_valid_ids():
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    p = np.array([2, 1]) / 3
    expected = -(p * np.log(p)).sum() / math.log(4)
    assert float(part_entropy(ids, valid, 4)) == pytest.approx(expected, abs=1e-6)
    every = torch.ones(1, 4, dtype=torch.bool)
    assert float(part_entropy(torch.arange(4)[None], every, 4)) == pytest.approx(1)
    assert float(part_entropy(ids, torch.zeros_like(valid), 4)) == 0
