"""The splits that every set has, whatever its archive calls them.

    train   the official training set                     test  the official test set
    fit     what a tuned choice is trained on             val   what it is judged on
    trainval  everything that is not test: fit and val together

Where an archive has its own validation list, fit is its training list. Elsewhere fit and val are a
seeded cut of train, 0.8 to 0.2 of each class, and trainval is train. The cut depends on each
image's name and its class, not on file order.
"""

import difflib
import hashlib

import numpy as np

from ssl_parts.errors import ConfigError, DataError

VAL_SHARE = 0.2


def choose_split(
    name: str,
    split: str,
    official: dict[str, np.ndarray],
    labels: np.ndarray,
    paths: list[str],
    seed: int,
) -> np.ndarray:
    """Rows of `split`, sorted.

    Args:
        name: of the data set, for messages.
        official: rows of each split that the archive lists: "train" and any of "val", "test",
            "trainval".
        labels, paths: of all rows.
        seed: of the cut into fit and val, where it is cut.

    Raises:
        ConfigError: a split that the set does not have.
        DataError: a split without images.
    """
    rows = _derive(official, labels, paths, split, seed)
    if rows is None:
        known = sorted({*official, "train", "fit", "val", "trainval"})
        near = difflib.get_close_matches(split, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"data.split={split!r}: {name} has no such split{hint}; choose one of {', '.join(known)}"
        )
    if len(rows) == 0:
        cut = split in ("fit", "val") and split not in official
        of = f": it is cut from the {len(official['train'])} training images" if cut else ""
        raise DataError(f"{name}: split {split!r} holds no image{of}")
    return np.sort(rows)


def _derive(
    official: dict[str, np.ndarray], labels: np.ndarray, paths: list[str], split: str, seed: int
) -> np.ndarray | None:
    if split in official:
        return official[split]
    train = official["train"]
    if "val" in official:
        return {"fit": train, "trainval": np.concatenate([train, official["val"]])}.get(split)
    if split == "trainval":
        return train
    if split not in ("fit", "val"):
        return None
    held = cut(labels[train], [paths[i] for i in train], VAL_SHARE, seed)
    return train[held] if split == "val" else train[~held]


def cut(labels: np.ndarray, paths: list[str], share: float, seed: int) -> np.ndarray:
    """Which of the images (bool) a seeded draw of `share` of each class takes; each class keeps at
    least one image on either side where it has two."""
    keys = np.array(
        [
            hashlib.blake2b(
                f"{seed}/{path}".encode(errors="surrogateescape"), digest_size=8
            ).hexdigest()
            for path in paths
        ]
    )
    taken = np.zeros(len(paths), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        number = min(max(1, round(share * len(members))), len(members) - 1)
        taken[members[np.argsort(keys[members])[:number]]] = True
    return taken
