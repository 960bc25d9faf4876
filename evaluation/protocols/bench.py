"""An encoder in front of a data set, and what a protocol finds there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evaluation.feature_cache import FeatureCache
from evaluation.features import FeatureTable
from evaluation.results import Measure
from ssl_parts.data import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import DataError


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

    def pooled(self, bank: ImageBank, pooling: str) -> FeatureTable:
        """Features of a bank, extracted once for all protocols of this bench."""
        key = (id(bank), pooling)
        if key not in self._tables:
            self._tables[key] = self.cache.pooled(
                self.encoder, bank, pooling, batch=self.batch, device=self.device
            )
        return self._tables[key]

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
