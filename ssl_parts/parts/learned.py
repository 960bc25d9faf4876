"""What discovery learned from a sample: `fit.pt` in the store's folder, written once, read by other
processes and later runs.
"""

import os
import uuid
from pathlib import Path
from typing import Any

import torch

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.store import PartStore

FIT = "fit.pt"

Learned = dict[str, Any]  # tensors, in lists and dictionaries


def read_learned(store: PartStore) -> Learned:
    """What the discovery that made this store has learned.

    Raises:
        PartDiscoveryError: a store of a discovery that learned for groups of images, or not made
            by discovery at all.
    """
    if store.fit is not None:
        return store.fit
    if store.path is None or not (store.path / FIT).exists():
        raise PartDiscoveryError(
            f"{store.path or 'the part store given as fitted'} has no {FIT} to use on other images"
        )
    return load_learned(store.path / FIT)


def load_learned(path: Path) -> Learned:
    """The tensors of one file, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def keep_first(learned: Learned, path: Path) -> None:
    """Create the file whole unless it exists: written beside it, then linked into place.

    Of processes that come at the same time, the first one's file stays.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    torch.save(learned, beside)
    try:
        os.link(beside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links: the last one wins, with the same content
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
