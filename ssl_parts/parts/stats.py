"""What a part store looks like in numbers: for metrics.jsonl, the report and the monitor.

Shapes: N images, K ids.
"""

from dataclasses import asdict, dataclass

import numpy as np

from ssl_parts.parts.match import contingency, image_tables
from ssl_parts.parts.store import PartStore

CHUNK = 1024


@dataclass(frozen=True)
class PartStats:
    """usage_entropy: of the parts' shares of all foreground cells, over its maximum log K: 1 when
    all are used alike. parts_an_image: mean number of parts (background not counted).
    foreground_share: of all cells. smallest_part: median over images of the smallest part's share
    of the image's foreground. empty: images that are background only. used: parts that occur
    anywhere.
    """

    images: int
    usage_entropy: float
    parts_an_image: float
    foreground_share: float
    smallest_part: float
    empty: int
    used: int

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def part_stats(store: PartStore) -> PartStats:
    """Read a finished store once.

    For ids that mean nothing across images, usage_entropy is the mean of the images' own
    entropies.
    """
    counts_NK = id_counts(store)
    if store.background is not None:
        counts_NK = np.delete(counts_NK, store.background, axis=1)
    foreground_N = counts_NK.sum(1)
    per_image = store.scope == "image"
    shares = counts_NK if per_image else counts_NK.sum(0, keepdims=True)
    smallest_N = np.where(counts_NK > 0, counts_NK, np.iinfo(np.int64).max).min(1)[foreground_N > 0]
    return PartStats(
        images=len(store),
        usage_entropy=float(np.mean([_entropy_share(row) for row in shares])),
        parts_an_image=float((counts_NK > 0).sum(1).mean()),
        foreground_share=float(foreground_N.sum() / (len(store) * store.size**2)),
        smallest_part=float(np.median(smallest_N / foreground_N[foreground_N > 0]))
        if len(smallest_N)
        else 0.0,
        empty=int((foreground_N == 0).sum()),
        used=int((counts_NK.sum(0) > 0).sum()),
    )


def id_counts(store: PartStore) -> np.ndarray:
    """int64 (N, K): cells of each id in each image."""
    counts = []
    for at in range(0, len(store), CHUNK):
        ids = (
            store.batch(np.arange(at, min(at + CHUNK, len(store))))
            .numpy()
            .reshape(-1, store.size**2)
        )
        offsets = np.arange(len(ids))[:, None] * store.k
        flat = np.bincount((ids + offsets).ravel(), minlength=len(ids) * store.k)
        counts.append(flat.reshape(len(ids), store.k))
    return np.concatenate(counts)


def store_nmi(first: PartStore, second: PartStore) -> float:
    """Normalised mutual information between two rounds' ids (arithmetic mean of the entropies),
    0..1.

    Over all cells of all images where both have ids of data-set scope, else the mean over images:
    ids that mean nothing in another image can only be compared within one.
    """
    if "image" not in (first.scope, second.scope):
        return nmi_of_table(contingency(first, second))
    chunks = (np.arange(at, min(at + CHUNK, len(first))) for at in range(0, len(first), CHUNK))
    return float(
        np.mean(
            [nmi_of_table(table) for rows in chunks for table in image_tables(first, second, rows)]
        )
    )


def nmi_of_table(table: np.ndarray) -> float:
    """NMI of two labellings from their contingency table; 1 when both have one label only."""
    joint = table / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    h_rows, h_columns = _entropy(rows), _entropy(columns)
    if h_rows == 0 and h_columns == 0:
        return 1.0
    mutual = h_rows + h_columns - _entropy(joint.ravel())
    return float(max(0.0, 2 * mutual / (h_rows + h_columns)))


def _entropy(shares: np.ndarray) -> float:
    used = shares[shares > 0]
    return float(-(used * np.log(used)).sum())


def _entropy_share(counts: np.ndarray) -> float:
    if counts.sum() == 0 or len(counts) < 2:
        return 0.0
    return _entropy(counts / counts.sum()) / float(np.log(len(counts)))
