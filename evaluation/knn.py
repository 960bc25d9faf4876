"""Weighted k-nearest-neighbour classification of frozen features (Wu et al. 2018, as in DINO's
evaluation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.linear_probe import check_labelled
from evaluation.metrics import bootstrap_interval, per_class_mean
from ssl_parts.engine.neighbours import vote_of_neighbours
from ssl_parts.errors import ConfigError


@dataclass(frozen=True)
class KnnResult:
    """Accuracies as fractions for one k; interval: 95 % bootstrap over test images."""

    k: int
    accuracy: float
    top5: float
    per_class_mean: float
    interval: tuple[float, float]
    n_train: int
    n_test: int


def knn_classify(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    k: int | Sequence[int] = 20,
    *,
    temperature: float = 0.07,
    chunk: int = 1024,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> dict[int, KnnResult]:
    """Vote of the k nearest training images by cosine, each with weight exp(cosine / temperature).

    Args:
        train_x, test_x: (N, D). train_y, test_y: (N,) class ids.
        k: one or several; all come from one search.
        chunk: test images at a time; changes only memory.
        seed: of the bootstrap.

    Returns:
        a result for each k, in the order given.

    Raises:
        ConfigError: k below 1 or above the number of training images, a temperature that is not
            positive.
        DataError: as `linear_probe`, except that a test class need not occur in training (it is
            then always wrong).
    """
    ks = [k] if isinstance(k, int) else list(k)
    train_x, train_y = check_labelled(train_x, train_y, "train")
    test_x, test_y = check_labelled(test_x, test_y, "test")
    if not ks or min(ks) < 1 or max(ks) > len(train_x):
        raise ConfigError(f"k={ks} must lie between 1 and the {len(train_x)} training images")
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature} must be positive")
    classes, compact = np.unique(train_y, return_inverse=True)
    ranked = vote_of_neighbours(
        torch.as_tensor(train_x, dtype=torch.float32, device=device),
        torch.as_tensor(compact, device=device),
        torch.as_tensor(test_x, dtype=torch.float32),
        ks,
        classes=len(classes),
        temperature=temperature,
        chunk=chunk,
    )
    return {k: _result(k, classes[ranked[k].cpu().numpy()], test_y, len(train_x), seed) for k in ks}


def _result(k: int, guesses: np.ndarray, truth: np.ndarray, n_train: int, seed: int) -> KnnResult:
    hits = guesses[:, 0] == truth
    top5 = (guesses == truth[:, None]).any(1)
    interval = bootstrap_interval(hits, seed=seed)
    return KnnResult(
        k,
        float(hits.mean()),
        float(top5.mean()),
        per_class_mean(hits, truth),
        interval,
        n_train,
        len(hits),
    )
