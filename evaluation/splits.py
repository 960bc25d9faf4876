"""Which images a protocol may use: few-label draws, stratified splits, folds. Functions of
(labels, seed).
"""

import numpy as np

from ssl_parts.errors import ConfigError, DataError


def few_label_indices(labels: np.ndarray, shots: int | float, seed: int) -> np.ndarray:
    """A class-balanced draw of labelled images.

    Args:
        labels: (N,) class indices.
        shots: images of each class as an int (5), or the share of each class as a float below 1
            (0.1), at least one.
        seed: of the draw. A smaller draw with the same seed is a subset of a larger one.

    Returns:
        sorted int64 indices into `labels`.

    Raises:
        ConfigError: shots is not positive.
        DataError: a class has fewer images than `shots`, or an image has no label.
    """
    labels = np.asarray(labels)
    if not shots > 0:
        raise ConfigError(
            f"shots={shots} must be positive: images of a class, or their share below 1"
        )
    if labels.size == 0 or labels.min() < 0:
        raise DataError(
            "few-label draws need labels, but the set has none for some images (label -1)"
        )
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        wanted = max(1, round(shots * len(members))) if 0 < shots < 1 else int(shots)
        if wanted > len(members):
            raise DataError(
                f"shots={wanted} but class {label} has {len(members)} images; lower shots or leave "
                "the class out"
            )
        chosen.append(members[:wanted])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def stratified_split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut `share` of each class off for validation.

    Returns:
        (rest, held-out), sorted int64 indices. Unlabelled images (-1) are one class of their own.
        A class of one image stays whole on the training side.

    Raises:
        ConfigError: share outside (0, 1).
        DataError: so few images that the held-out side would be empty.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the validation share is {share}, it must lie between 0 and 1")
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        take = min(max(1, round(share * len(members))), len(members) - 1)
        held[members[:take]] = True
    if not held.any():
        raise DataError(
            f"{len(labels)} images of {len(np.unique(labels))} classes cannot be split; add images"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def folds(n: int, count: int, seed: int) -> list[np.ndarray]:
    """A shuffled partition of range(n) into `count` folds whose sizes differ by at most one.

    Raises:
        ConfigError: fewer than two folds, or more folds than images.
    """
    if not 2 <= count <= n:
        raise ConfigError(f"folds={count} must lie between 2 and the {n} images there are")
    order = np.random.default_rng(seed).permutation(n)
    return [np.sort(part) for part in np.array_split(order, count)]
