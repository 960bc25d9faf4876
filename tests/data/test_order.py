import numpy as np
import pytest

from ssl_parts.data.order import (
    batch_indices,
    epoch_permutation,
    evenly_spaced,
    rank_slice,
    steps_per_epoch,
)
from ssl_parts.errors import ConfigError


def test_a_pass_reads_no_image_twice_and_differs_from_the_next():
    passes = [
        np.concatenate([batch_indices(e * 6 + s, 16, 100, 3) for s in range(6)]) for e in range(4)
    ]
    for order in passes:
        assert (
            len(order) == 96 == len(set(order.tolist())) and order.min() >= 0 and order.max() < 100
        )
    assert all(
        np.array_equal(order, epoch_permutation(3, e, 100)[:96]) for e, order in enumerate(passes)
    )
    assert not np.array_equal(passes[0], passes[1])
    # what one pass leaves out is not the same in all: each image is seen sooner or later
    assert set(np.concatenate(passes).tolist()) == set(range(100))


def test_permutation_is_uniform():
    """Each image is equally often in each quarter of the pass: chi-square against the flat count."""
    n, draws = 8, 4000
    places = np.stack([epoch_permutation(0, e, n) for e in range(draws)])
    counts = np.stack([np.bincount(places[:, p], minlength=n) for p in range(n)])
    chi2 = ((counts - draws / n) ** 2 / (draws / n)).sum()
    assert chi2 < 100  # 49 degrees of freedom: p < 1e-5 beyond this


def test_seeds_and_epochs_are_independent():
    assert not np.array_equal(epoch_permutation(0, 1, 50), epoch_permutation(1, 0, 50))
    assert not np.array_equal(epoch_permutation(0, 0, 50), epoch_permutation(1, 0, 50))


def test_any_order_of_asking():
    asked = {s: batch_indices(s, 7, 60, 9).tolist() for s in (80, 3, 41, 0)}
    assert all(batch_indices(s, 7, 60, 9).tolist() == asked[s] for s in (0, 3, 41, 80))


def test_changing_a_batch_does_not_change_the_next_call():
    batch_indices(0, 4, 10, 0)[:] = 99
    assert batch_indices(0, 4, 10, 0).max() < 10


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6])
def test_ranks_share_the_batch(world):
    whole = batch_indices(5, 12, 40, 0)
    shares = [whole[rank_slice(12, rank, world)] for rank in range(world)]
    assert np.array_equal(np.concatenate(shares), whole)
    assert len({len(share) for share in shares}) == 1


def test_errors_say_the_way_out():
    with pytest.raises(
        ConfigError, match=r"train\.batch=64 is larger than the data set of 12.*at most 12"
    ):
        batch_indices(0, 64, 12, 0)
    with pytest.raises(ConfigError, match=r"batch=10 cannot be shared by 4.*train\.batch=8"):
        rank_slice(10, 0, 4)
    with pytest.raises(ConfigError, match="rank=4"):
        rank_slice(8, 4, 4)
    with pytest.raises(ConfigError, match="at least 1"):
        steps_per_epoch(0, 5)
    assert steps_per_epoch(5, 12) == 2


def test_evenly_spaced_by_hand():
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(10, 3).tolist() == [0, 4, 9]  # 4.5 is cut
    assert evenly_spaced(3, 10).tolist() == [0, 1, 2]
    assert evenly_spaced(7, 1).tolist() == [0] and evenly_spaced(0, 5).tolist() == []
    assert evenly_spaced(731, 512)[7] == 10  # 7 x 730 / 511: whole, where float32 may fall short


@pytest.mark.parametrize("n", [2, 24, 300, 1361, 5140])
def test_evenly_spaced_is_the_line_from_the_first_to_the_last(n):
    chosen = evenly_spaced(n, 24)
    line = np.linspace(0, n - 1, min(n, 24))
    assert len(set(chosen.tolist())) == len(chosen) and chosen[-1] == n - 1
    assert ((line - chosen >= -1e-9) & (line - chosen < 1)).all()
