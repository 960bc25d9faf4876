import numpy as np
import pytest

from evaluation.knn import knn_classify
from ssl_parts.errors import ConfigError


def case(seed=0, n=120, m=37, d=6, classes=5):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    train_y, test_y = rng.integers(0, classes, n), rng.integers(0, classes, m)
    return (
        centres[train_y] + rng.normal(size=(n, d)),
        train_y,
        centres[test_y] + rng.normal(size=(m, d)),
        test_y,
    )


def brute_force(train_x, train_y, test_x, test_y, k, temperature):
    """Straight from the definition, one test image at a time."""
    right, among5 = [], []
    for x, y in zip(test_x, test_y):
        cosine = train_x @ x / np.linalg.norm(train_x, axis=1) / np.linalg.norm(x)
        near = np.argsort(-cosine)[:k]
        votes = {
            c: np.exp(cosine[near][train_y[near] == c] / temperature).sum()
            for c in np.unique(train_y)
        }
        ranked = sorted(votes, key=votes.get, reverse=True)
        right.append(ranked[0] == y)
        among5.append(y in ranked[:5])
    return np.mean(right), np.mean(among5)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_against_brute_force(temperature):
    arrays = case(classes=7)
    results = knn_classify(*arrays, k=[1, 5, 20], temperature=temperature)
    for k, result in results.items():
        top1, top5 = brute_force(*arrays, k, temperature)
        assert result.accuracy == pytest.approx(top1)
        if k == 20:  # with fewer neighbours than classes the last of five guesses are ties
            assert result.top5 == pytest.approx(top5, abs=0.06)


def test_chunks_and_list_change_nothing():
    arrays = case(1)
    together = knn_classify(*arrays, k=[3, 9], chunk=1000)
    assert together == knn_classify(*arrays, k=[3, 9], chunk=5)
    assert together[9] == knn_classify(*arrays, k=9)[9]


def test_only_directions_count():
    train_x, train_y, test_x, test_y = case(2)
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(train_x), 1))
    assert knn_classify(train_x, train_y, test_x, test_y, 5) == knn_classify(
        train_x * lengths, train_y, test_x, test_y, 5
    )


def test_k_larger_than_the_training_set():
    with pytest.raises(ConfigError, match="the 120 training images"):
        knn_classify(*case(), k=121)
