"""The numbers themselves, on plain arrays: accuracy, data-set-level IoU, bootstrap intervals, a
paired test over seeds.

Every figure is a fraction in [0, 1]; tables print percent.
"""

import numpy as np

from ssl_parts.data.records import IGNORE
from ssl_parts.errors import DataError


def topk_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each sample's label is among its k highest scores.

    Args:
        scores: (N, C) scores, larger is better.
        labels: (N,) column indices.
        k: how many guesses count; more than C means C.

    Returns:
        bool (N,). A label that ties with the k-th score counts as worse than every column before
        it, so a constant scorer gains nothing from ties.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    columns = np.arange(scores.shape[1])[None]
    ahead = (scores > own) | ((scores == own) & (columns < labels[:, None]))
    return ahead.sum(1) < min(k, scores.shape[1])


def per_class_mean(hits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the accuracies of the classes present in `labels` (balanced accuracy)."""
    return float(np.mean([hits[labels == c].mean() for c in np.unique(labels)]))


def confusion_matrix(
    pred: np.ndarray, true: np.ndarray, classes: int, ignore: int | None = None
) -> np.ndarray:
    """Counts of (true, predicted) pairs, to be summed over a data set.

    Args:
        pred, true: integer arrays of one shape, values in [0, classes).
        ignore: value of `true` that is left out.

    Returns:
        int64 (classes, classes), rows are the truth.

    Raises:
        DataError: an id outside [0, classes).
    """
    true, pred = (
        np.asarray(true).ravel().astype(np.int64),
        np.asarray(pred).ravel().astype(np.int64),
    )
    if ignore is not None:
        keep = true != ignore
        true, pred = true[keep], pred[keep]
    for what, ids in (("true", true), ("predicted", pred)):
        if ids.size and not (ids.min() >= 0 and ids.max() < classes):
            raise DataError(
                f"{what} ids run from {ids.min()} to {ids.max()}, but there are {classes} classes"
            )
    return np.bincount(true * classes + pred, minlength=classes * classes).reshape(classes, classes)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class of a confusion matrix summed over the whole data set.

    Returns:
        float64 (classes,); NaN for a class that neither truth nor prediction ever has, so that a
        mean can leave it out.
    """
    inside = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - inside
    return np.divide(inside, union, out=np.full(len(inside), np.nan), where=union > 0)


def id_counts(pred: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Pixels in the intersection and in the union of each class, int64 (2, classes), to be summed
    over a data set; those whose true id is IGNORE are left out."""
    confusion = confusion_matrix(pred, true, classes, ignore=IGNORE)
    inside = np.diag(confusion)
    return np.stack([inside, confusion.sum(0) + confusion.sum(1) - inside])


def plane_counts(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """As `id_counts` for parts that may overlap.

    Args:
        pred, true: (B, P, H, W), non-zero where a part is.

    Returns:
        int64 (2, P + 1); the first column is the background: pixels without any part.
    """
    pred, true = np.asarray(pred) != 0, np.asarray(true) != 0
    pred, true = (np.concatenate([~x.any(1, keepdims=True), x], 1) for x in (pred, true))
    axes = (0, 2, 3)
    return np.stack([(pred & true).sum(axes), (pred | true).sum(axes)]).astype(np.int64)


def iou_of_counts(counts: np.ndarray) -> np.ndarray:
    """IoU of each class from summed (2, K) counts; NaN where the union is empty."""
    inside, union = np.asarray(counts, dtype=np.float64)
    return np.divide(inside, union, out=np.full(len(inside), np.nan), where=union > 0)


def mean_iou(iou: np.ndarray, background: bool) -> float:
    """Mean IoU over the classes that occur; class 0 is the background and counts only when asked
    for.
    """
    used = np.asarray(iou)[0 if background else 1 :]
    used = used[~np.isnan(used)]
    return float(used.mean()) if used.size else float("nan")


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, for instance of per-image hits.

    Args:
        values: (N,) numbers or bools.
        level: coverage.
        draws: resamples of N with replacement.
        seed: of the resampling, so that one run prints one interval.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise DataError("no values to take a bootstrap interval of")
    generator = np.random.default_rng(seed)
    means = np.array(
        [values[generator.integers(0, values.size, values.size)].mean() for _ in range(draws)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
