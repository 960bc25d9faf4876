import numpy as np
import pytest

from evaluation.splits import few_label_indices, folds, stratified_split
from ssl_parts.errors import ConfigError, DataError

LABELS = np.repeat([3, 5, 9], [10, 20, 30])


def test_shots_are_balanced_repeatable_and_nested():
    draw = few_label_indices(LABELS, 5, seed=1)
    assert np.unique(LABELS[draw], return_counts=True)[1].tolist() == [5, 5, 5]
    assert (draw == few_label_indices(LABELS, 5, seed=1)).all()
    assert (draw != few_label_indices(LABELS, 5, seed=2)).any()
    assert set(few_label_indices(LABELS, 2, seed=1)) < set(draw)


def test_a_share_of_each_class():
    draw = few_label_indices(LABELS, 0.1, seed=0)
    assert np.unique(LABELS[draw], return_counts=True)[1].tolist() == [1, 2, 3]


def test_too_many_shots_name_the_class():
    with pytest.raises(DataError, match="class 3 has 10 images"):
        few_label_indices(LABELS, 11, seed=0)
    with pytest.raises(ConfigError, match="shots=0"):
        few_label_indices(LABELS, 0, seed=0)
    with pytest.raises(DataError, match="need labels"):
        few_label_indices(np.array([0, -1]), 1, seed=0)


def test_stratified_split_is_a_partition_by_class():
    rest, held = stratified_split(LABELS, 0.2, seed=0)
    assert sorted([*rest, *held]) == list(range(60))
    assert np.unique(LABELS[held], return_counts=True)[1].tolist() == [2, 4, 6]


def test_a_class_of_one_image_stays_in_training():
    rest, held = stratified_split(np.array([0, 1, 1, 1]), 0.5, seed=0)
    assert 0 in rest
    assert len(held) == 2


def test_folds_partition_evenly():
    parts = folds(23, 5, seed=0)
    assert sorted(np.concatenate(parts)) == list(range(23))
    assert {len(p) for p in parts} == {4, 5}
    with pytest.raises(ConfigError, match="folds=9"):
        folds(8, 9, seed=0)
