from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts import (
    DatasetConfig,
    PartStore,
    StoreInfo,
    contingency,
    match_ids,
    part_stats,
    store_nmi,
)
from ssl_parts.parts.methods.dataset import DatasetClustering
from ssl_parts.parts.stats import nmi_of_table

INFO = StoreInfo(count=6, size=8, k=5, background=0, scope="dataset")


def store(seed=0, info=INFO, ids=None):
    made = PartStore(info)
    if ids is None:
        shape = (info.count, info.size, info.size)
        ids = torch.randint(
            0, info.k, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
        )
    made.write(range(info.count), ids)
    return made


def test_contingency_and_nmi_against_sklearn():
    first, second = store(0), store(1, replace(INFO, k=7))
    a, b = first.batch(range(6)).flatten(), second.batch(range(6)).flatten()
    assert np.array_equal(contingency(first, second), contingency_matrix(a, b))
    assert store_nmi(first, second) == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9)
    assert store_nmi(first, first) == pytest.approx(1.0)
    assert nmi_of_table(np.array([[10]])) == 1.0


def test_ids_of_one_image_are_compared_within_it():
    ids = store(0).batch(range(6))
    # another numbering in each image
    shifted = torch.stack([(image + i) % 5 for i, image in enumerate(ids)])
    per_image = replace(INFO, scope="image")
    assert store_nmi(
        store(info=per_image, ids=ids), store(info=per_image, ids=shifted)
    ) == pytest.approx(1.0)
    assert store_nmi(store(ids=ids), store(ids=shifted)) < 0.5


def test_matching_is_optimal_by_brute_force():
    from itertools import permutations

    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.integers(0, 50, (4, 4))
        numbers = match_ids(table)
        best = max(sum(table[p[j], j] for j in range(4)) for p in permutations(range(4)))
        assert (
            sorted(numbers) == [0, 1, 2, 3] and sum(table[numbers[j], j] for j in range(4)) == best
        )


def test_more_ids_than_before_get_new_numbers():
    numbers = match_ids(np.array([[0, 9, 0], [0, 0, 8]]))
    assert numbers.tolist() == [2, 0, 1]


def test_stores_of_other_images_cannot_be_compared():
    with pytest.raises(PartDiscoveryError, match="6 and 4 images"):
        contingency(store(), store(info=replace(INFO, count=4)))


def test_stores_of_different_sizes_share_a_grid():
    small = store(0)
    large = store(
        info=replace(INFO, size=16),
        ids=small.batch(range(6)).repeat_interleave(2, 1).repeat_interleave(2, 2),
    )
    assert store_nmi(small, large) == pytest.approx(1.0)


def test_statistics_by_hand():
    ids = torch.zeros(6, 8, 8, dtype=torch.uint8)
    ids[:, :4, :4] = 1
    ids[:, :4, 4:] = 2
    ids[5] = 0
    stats = part_stats(store(ids=ids))
    assert stats.foreground_share == pytest.approx(5 / 6 * 0.5)
    assert stats.parts_an_image == pytest.approx(10 / 6)
    assert stats.usage_entropy == pytest.approx(np.log(2) / np.log(4))
    assert (stats.empty, stats.used, stats.smallest_part) == (1, 2, 0.5)
    whole = part_stats(store(info=replace(INFO, background=None), ids=ids))
    assert whole.foreground_share == 1.0 and whole.used == 3
    assert set(stats.as_dict()) >= {"usage_entropy", "parts_an_image", "foreground_share"}


@pytest.mark.parametrize("found", [4, 3])
def test_centroids_take_the_numbers_of_the_parts_they_cover(found):
    old_of_new = [2, 0, 3, 1][:found]  # no involution: its inverse is another order
    overlaps = np.ones((4, 4), np.int64)
    for new, old in enumerate(old_of_new):
        overlaps[old, new] = 100
    state = {"mean_D": torch.zeros(1), "centroids_KD": torch.arange(float(found))[:, None]}
    method = DatasetClustering(DatasetConfig(k=4, features="colour"), None)
    method.load(state)
    method.reorder(state, match_ids(overlaps[:, : method.parts]).argsort())
    assert state["centroids_KD"].flatten().tolist() == sorted(
        range(found), key=lambda new: old_of_new[new]
    )
