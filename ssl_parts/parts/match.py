"""Which id of one round is which id of the next.

Shapes: N images, K ids.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.store import PartStore

CHUNK = 1024


def contingency(first: PartStore, second: PartStore) -> np.ndarray:
    """int64 (K1, K2): cells that have id i in the first store and id j in the second.

    Stores of different sizes are compared on the finer one's grid (nearest cell).

    Raises:
        PartDiscoveryError: stores of different numbers of images.
    """
    if len(first) != len(second):
        raise PartDiscoveryError(
            f"cannot compare part stores of {len(first)} and {len(second)} images"
        )
    table = np.zeros((first.k, second.k), np.int64)
    for at in range(0, len(first), CHUNK):
        rows = np.arange(at, min(at + CHUNK, len(first)))
        table += image_tables(first, second, rows).sum(0)
    return table


def image_tables(first: PartStore, second: PartStore, rows: np.ndarray) -> np.ndarray:
    """The contingency table of each of these images, int64 (n, K1, K2)."""
    return id_tables(first.batch(rows).numpy(), second.batch(rows).numpy(), first.k, second.k)


def id_tables(
    first_NSS: np.ndarray, second_NSS: np.ndarray, k_first: int, k_second: int
) -> np.ndarray:
    """Contingency tables (N, K1, K2) of ids of the same images, on the finer of the two grids."""
    size, count = max(first_NSS.shape[-1], second_NSS.shape[-1]), len(first_NSS)
    a, b = (_on_grid(ids_NSS, size).astype(np.int64) for ids_NSS in (first_NSS, second_NSS))
    pairs = (np.arange(count)[:, None, None] * k_first + a) * k_second + b
    flat = np.bincount(pairs.ravel(), minlength=count * k_first * k_second)
    return flat.reshape(count, k_first, k_second)


def match_ids(table: np.ndarray) -> np.ndarray:
    """New number (K2,) of each id of the second store, so that most cells keep the first store's
    numbers.

    Hungarian assignment on the contingency table (K1, K2). Ids of the second store that are left
    over get the numbers that are left over, so with K2 >= K1 the result is a permutation of
    0..K2-1; with K2 < K1 it is injective.

    Example:
        >>> match_ids(np.array([[0, 9], [8, 1]]))
        array([1, 0])
    """
    weights = table.astype(np.float64)
    rows, columns = linear_sum_assignment(weights, maximize=True)
    numbers = np.full(table.shape[1], -1, np.int64)
    numbers[columns] = rows
    free = iter(np.setdiff1d(np.arange(max(table.shape)), rows))
    for j in np.flatnonzero(numbers < 0):
        numbers[j] = next(free)
    return numbers


def _on_grid(ids_NHW: np.ndarray, size: int) -> np.ndarray:
    pick = np.arange(size) * ids_NHW.shape[-1] // size
    return ids_NHW[:, pick][:, :, pick]
