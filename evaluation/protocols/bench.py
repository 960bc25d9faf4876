"""An encoder in front of a data set, and what a protocol finds there."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from evaluation.crop_features import (
    crops_of,
    describe_crops,
    extract_crop_features,
    is_crops,
    parts_to_crop,
)
from evaluation.feature_cache import FeatureCache, describe_features
from evaluation.features import FeatureTable
from evaluation.results import Measure
from ssl_parts.data import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import DataError
from ssl_parts.parts.discover import discover_parts
from ssl_parts.parts.store import PartStore


@dataclass(frozen=True)
class Bench:
    """An encoder in front of a data set; neither changes while protocols read them.

    train: what may be learned from and selected on; test: what is reported on, read once all
    choices are made. data: what tables call the data set; its own name where it is "".
    """

    encoder: Encoder
    train: ImageBank
    test: ImageBank
    device: str | torch.device = "cpu"
    batch: int = 64
    cache: FeatureCache = field(default_factory=lambda: FeatureCache(None))
    data: str = ""
    _tables: dict[tuple[int, str], FeatureTable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _stores: dict[int, PartStore] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _parts_of_it: dict[tuple[bytes, bytes], "Bench"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def data_name(self) -> str:
        """What tables call the data set."""
        return self.data or self.train.dataset.name

    @property
    def labelled(self) -> bool:
        """Whether a classifier can be trained: several classes, and a label for every image."""
        return len(self.train.dataset.classes) > 1 and bool((self.train.labels >= 0).all())

    @property
    def masked(self) -> bool:
        """Whether the data set has part masks."""
        return len(self.train.dataset.part_names) > 0

    def restricted(self, train: np.ndarray | None, test: np.ndarray | None) -> "Bench":
        """The same encoder in front of some of the images, by position; None keeps all. Asked for
        again, it is the same object, with its features.
        """
        key = _bytes(train), _bytes(test)
        if key not in self._parts_of_it:
            self._parts_of_it[key] = replace(
                self,
                train=self.train if train is None else self.train.subset(train),
                test=self.test if test is None else self.test.subset(test),
            )
        return self._parts_of_it[key]

    def pooled(self, bank: ImageBank, pooling: str) -> FeatureTable:
        """Features of a bank, extracted once for all protocols of this bench."""
        key = (id(bank), pooling)
        if key not in self._tables:
            extract = self._cropped if is_crops(pooling) else self.cache.pooled
            self._tables[key] = extract(
                self.encoder, bank, pooling, batch=self.batch, device=self.device
            )
        return self._tables[key]

    def found_parts(self, bank: ImageBank) -> PartStore:
        """Part ids of a bank; discovery learns on the training images and reads no label."""
        if id(bank) not in self._stores:
            fitted = None if bank is self.train else self.found_parts(self.train)
            self._stores[id(bank)] = discover_parts(
                self.encoder, bank, parts_to_crop(), device=self.device, fitted=fitted
            )
        return self._stores[id(bank)]

    def _cropped(
        self, encoder: Encoder, bank: ImageBank, pooling: str, **options: Any
    ) -> FeatureTable:
        def describe() -> dict[str, Any]:
            learned_on = describe_features(encoder, self.train, pooling)
            return describe_features(encoder, bank, pooling) | describe_crops(pooling, learned_on)

        def make() -> FeatureTable:
            store = self.found_parts(bank) if crops_of(pooling).needs_parts else None
            return extract_crop_features(encoder, bank, pooling, store, **options)

        return self.cache.kept(describe, len(bank), make)

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Stages of a dense protocol; all of the encoder's where none are asked for.

        Raises:
            ConfigError: a stage that the encoder does not have.
        """
        return tuple(self.encoder.check_stages(asked or self.encoder.stages))

    def need_masks(self) -> None:
        """Raise DataError where the data set has no part masks."""
        if not self.masked:
            raise DataError(
                f"{self.data_name} has no part masks; choose another data set or protocol"
            )


def _bytes(rows: np.ndarray | None) -> bytes:
    return b"" if rows is None else rows.tobytes()


@dataclass(frozen=True)
class Measured:
    """What a protocol found.

    selection: how hyper-parameters were chosen, in words. chosen: what was chosen. suffix: tells
    several results of one protocol apart (rounds of a run).
    """

    values: dict[str, Measure]
    splits: dict[str, int]
    layer: str
    selection: str
    seeds: list[int]
    pooling: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""
