"""Frozen features on disk: computed once for the same weights, images and protocol, whoever asks.

    FOLDER/KEY/   pooled.npy  labels.npy  key.json (what the key was made of)

The key covers everything that the features depend on: the weights bit by bit (mean and std
included), the network's arguments, the images (source, size, geometry, rows), and the pooling. A
change of any is another folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.features import FeatureTable, extract_features
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.cache import describe_source
from ssl_parts.encoders import Encoder, encoder_hash
from ssl_parts.errors import DataError

VERSION = 1  # raised when extraction changes its numbers


class FeatureCache:
    """Pooled features by encoder, bank and pooling.

    Args:
        folder: where they are kept; None keeps nothing (every call extracts).
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = Path(folder) if folder is not None else None

    def pooled(
        self,
        encoder: Encoder,
        bank: ImageBank,
        pooling: str = "pooled",
        *,
        batch: int = 64,
        device: str | torch.device = "cpu",
    ) -> FeatureTable:
        """As `extract_features` without dense maps.

        Raises:
            DataError: the folder cannot be written, or what is there is damaged.
        """
        return self.kept(
            lambda: describe_features(encoder, bank, pooling),
            len(bank),
            lambda: extract_features(encoder, bank, batch=batch, device=device, pooling=pooling),
        )

    def kept(
        self,
        describe: Callable[[], dict[str, Any]],
        images: int,
        make: Callable[[], FeatureTable],
    ) -> FeatureTable:
        """What `make` returns, from the disk where it has been made before.

        Args:
            describe: everything that the features depend on, as JSON.
            images: rows of the table.

        Raises:
            DataError: as `pooled`, and what `make` raises.
        """
        if self.folder is None:
            return make()
        described = describe()
        place = self.folder / digest(described)
        if not place.exists():
            self._write(place, make(), described)
        return self._read(place, images)

    def _write(self, place: Path, table: FeatureTable, described: dict[str, Any]) -> None:
        work = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            np.save(work / "pooled.npy", table.pooled)
            np.save(work / "labels.npy", table.labels)
            (work / "key.json").write_text(json.dumps(described, indent=1, sort_keys=True))
            for file in work.iterdir():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
            os.rename(work, place)
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            if not place.exists():  # otherwise another process was first, with the same features
                raise DataError(
                    f"features cannot be kept in {self.folder}: {error}; set run.cache=null"
                ) from error

    def _read(self, place: Path, images: int) -> FeatureTable:
        try:
            table = FeatureTable(np.load(place / "pooled.npy"), np.load(place / "labels.npy"))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"kept features {place} are damaged ({error}); delete the folder"
            ) from error
        if len(table) != images or len(table.labels) != images:
            raise DataError(
                f"kept features {place} are of {len(table)} images, not {images}; delete the folder"
            )
        return table


def describe_features(encoder: Encoder, bank: ImageBank, pooling: str) -> dict[str, Any]:
    """Everything that pooled features depend on, as JSON."""
    return {
        "version": VERSION,
        "encoder": {
            "name": encoder.name,
            "arguments": encoder.model_args,
            "weights": encoder_hash(encoder),
        },
        "data": describe_source(bank.dataset),
        "images": {
            "size": bank.size,
            "fit": bank.fit.value,
            "rows": digest(np.asarray(bank.rows).tolist()),
        },
        "pixels": _some_pixels(bank),
        "labels": digest(np.asarray(bank.labels).tolist()),
        "pooling": pooling,
    }


def _some_pixels(bank: ImageBank, count: int = 4) -> str:
    """A few images themselves: drawing or decoding that has changed shows here, whatever the names
    say.
    """
    chosen = np.unique(np.linspace(0, len(bank) - 1, count).astype(int))
    return hashlib.sha256(bank.images(chosen).numpy().tobytes()).hexdigest()[:20]


def digest(value: Any) -> str:
    """20 hex digits of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:20]
