import numpy as np
import pytest

from ssl_parts.data.sets.splits import choose_split, cut
from ssl_parts.errors import ConfigError, DataError

LABELS = np.repeat(np.arange(6), [20, 10, 5, 2, 1, 40])
PATHS = [f"c{label}/{i}.jpg" for i, label in enumerate(LABELS)]
TRAIN, TEST = np.arange(0, 78, 2), np.arange(1, 78, 2)


def rows(split, official=None, seed=0):
    return choose_split("s", split, official or {"train": TRAIN, "test": TEST}, LABELS, PATHS, seed)


def test_fit_and_val_are_a_cut_of_train():
    fit, val = rows("fit"), rows("val")
    assert (
        sorted([*fit, *val])
        == TRAIN.tolist()
        == rows("trainval").tolist()
        == rows("train").tolist()
    )
    assert not set(val) & set(TEST) and not set(fit) & set(val)
    for label in range(6):
        members = (LABELS[TRAIN] == label).sum()
        assert (LABELS[val] == label).sum() == (
            min(max(1, round(0.2 * members)), members - 1) if members else 0
        )


def test_cut_depends_on_names_not_on_order():
    mixed = np.random.default_rng(0).permutation(len(PATHS))
    taken = cut(LABELS, PATHS, 0.3, 1)
    again = cut(LABELS[mixed], [PATHS[i] for i in mixed], 0.3, 1)
    assert np.array_equal(taken[mixed], again)
    assert not np.array_equal(taken, cut(LABELS, PATHS, 0.3, 2))


def test_an_archive_with_its_own_val():
    official = {"train": np.arange(10), "val": np.arange(10, 20), "test": np.arange(20, 78)}
    assert rows("train", official).tolist() == rows("fit", official).tolist() == list(range(10))
    assert rows("val", official).tolist() == list(range(10, 20))
    assert rows("trainval", official).tolist() == list(range(20))


def test_errors():
    with pytest.raises(ConfigError, match=r"split='tset'.*did you mean 'test'"):
        rows("tset")
    with pytest.raises(ConfigError, match="has no such split"):
        rows("test", {"train": TRAIN})
    with pytest.raises(DataError, match="holds no image"):
        rows("test", {"train": TRAIN, "test": TEST[:0]})
