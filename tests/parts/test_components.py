"""Connected components against scipy's, by both ways to number them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssl_parts.parts.refinement import components
from ssl_parts.parts.refinement.components import largest_component

EIGHT = np.ones((3, 3))


@pytest.fixture(params=["scan", "sweeps"])
def numbering(request, monkeypatch):
    """By scipy, as on a CPU, and for a batch on any device."""
    if request.param == "sweeps":
        monkeypatch.setattr(components, "_number_by_scan", components.number_by_sweeps)


@pytest.mark.parametrize("diagonals", [True, False])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_largest_component_is_scipys(density, diagonals, numbering):
    masks = torch.rand(6, 9, 7, generator=torch.Generator().manual_seed(2)) < density
    found = largest_component(masks, diagonals)
    for mask, mine in zip(masks, found):
        labels, count = ndimage.label(mask.numpy(), EIGHT if diagonals else None)
        sizes = [int((labels == i).sum()) for i in range(1, count + 1)]
        if not sizes:
            assert not mine.any()
            continue
        assert mine.numpy().tolist() == (labels == sizes.index(max(sizes)) + 1).tolist()


def test_corners_connect_where_asked(numbering):
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]]).bool()[None]
    eight, four = largest_component(mask), largest_component(mask, diagonals=False)
    assert eight[0].int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert four[0].int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]


def test_of_two_equal_components_the_first_is_taken(numbering):
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 0, 3:] = mask[0, 2:, 0] = True
    assert largest_component(mask).nonzero().tolist() == [[0, 0, 3], [0, 0, 4]]


@pytest.mark.parametrize("diagonals", [True, False])
def test_a_snake_is_one_component(diagonals, numbering):
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[:, ::2] = True
    mask[:, 1, 8] = mask[:, 3, 0] = mask[:, 5, 8] = mask[:, 7, 0] = True
    assert torch.equal(largest_component(mask, diagonals), mask)
