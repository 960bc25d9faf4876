"""How far two labellings of the same points agree: normalised mutual information, adjusted Rand
index (docs/method.md, section 6.1).
"""

import numpy as np
from numpy.typing import ArrayLike

from ssl_parts.errors import DataError
from ssl_parts.parts.stats import nmi_of_table


def nmi_ari(pred_ids: ArrayLike, true_ids: ArrayLike) -> tuple[float, float]:
    """Normalised mutual information (arithmetic mean) and adjusted Rand index of two labellings of
    the same points.

    Args:
        pred_ids, true_ids: integer arrays with as many entries, in any numbering.

    Returns:
        (NMI, ARI); 1 where the labellings are the same up to their numbering.

    Raises:
        DataError: no points, or labellings of different lengths.

    Example:
        >>> nmi_ari([0, 0, 1, 1], [5, 5, 2, 2])
        (1.0, 1.0)
    """
    pred, true = np.asarray(pred_ids).ravel(), np.asarray(true_ids).ravel()
    if pred.shape != true.shape or pred.size == 0:
        raise DataError(
            f"two labellings of the same points are needed, got {pred.size} and {true.size} points"
        )
    _, pred = np.unique(pred, return_inverse=True)
    _, true = np.unique(true, return_inverse=True)
    columns = int(true.max()) + 1
    table = np.bincount(pred * columns + true, minlength=(int(pred.max()) + 1) * columns).reshape(
        -1, columns
    )
    return nmi_of_table(table), ari_of_table(table)


def ari_of_table(table: np.ndarray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985) from a contingency table."""
    together = _pairs(table).sum()
    in_rows, in_columns, everything = (
        _pairs(table.sum(1)).sum(),
        _pairs(table.sum(0)).sum(),
        _pairs(table.sum()),
    )
    expected = in_rows * in_columns / max(everything, 1.0)
    most = (in_rows + in_columns) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, np.float64)
    return counts * (counts - 1) / 2
