"""Votes of neighbours against loops in Python and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ssl_parts.engine.neighbours import vote_of_neighbours


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 90)
    points = np.eye(6, 16)[labels] + 0.5 * rng.normal(size=(90, 16))
    return points.astype(np.float32), labels


def rank(points, labels, ks, **options):
    ranked = vote_of_neighbours(
        torch.from_numpy(points[:60]),
        torch.from_numpy(labels[:60]),
        torch.from_numpy(points[60:]),
        ks,
        classes=6,
        **options,
    )
    return {k: found.numpy() for k, found in ranked.items()}


def test_ranks_are_those_of_a_loop(vectors):
    points, labels = vectors
    found = rank(points, labels, [1, 7], temperature=0.2)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for k in (1, 7):
        for q in range(30):
            cosine = unit[:60] @ unit[60 + q]
            votes = np.zeros(6)
            for n in np.argsort(-cosine)[:k]:
                votes[labels[n]] += np.exp(cosine[n] / 0.2)
            voted = np.argsort(-votes, kind="stable")[: min(5, (votes > 0).sum())]
            assert found[k][q][: len(voted)].tolist() == voted.tolist()


def test_first_choice_is_scikit_learns(vectors):
    points, labels = vectors
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    weigh = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
    theirs = KNeighborsClassifier(9, metric="cosine", weights=weigh).fit(unit[:60], labels[:60])
    assert rank(points, labels, [9])[9][:, 0].tolist() == theirs.predict(unit[60:]).tolist()


def test_chunks_and_lengths_of_vectors_change_nothing(vectors):
    points, labels = vectors
    once, chunked = rank(points, labels, [5])[5], rank(points, labels, [5], chunk=4)[5]
    assert (once[:, 0] == chunked[:, 0]).all()
    longer = points * np.linspace(1, 9, 90, dtype=np.float32)[:, None]
    assert (once[:, 0] == rank(longer, labels, [5])[5][:, 0]).all()
