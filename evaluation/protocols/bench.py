"""What every protocol reads, and what it hands back. A protocol is a dataclass of settings with
`measure(bench)`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol

import torch

from evaluation.feature_cache import FeatureCache
from evaluation.features import FeatureTable
from evaluation.results import Measure, Row, config_hash
from ssl_parts.data import ImageBank
from ssl_parts.encoders import Encoder, encoder_hash
from ssl_parts.errors import ConfigError, DataError


@dataclass(frozen=True)
class Bench:
    """An encoder in front of a data set.

    train: what may be learned from and selected on; test: what is reported on, read once all
    choices are made.
    """

    encoder: Encoder
    train: ImageBank
    test: ImageBank
    device: str | torch.device = "cpu"
    batch: int = 64
    cache: FeatureCache = field(default_factory=lambda: FeatureCache(None))

    def pooled(self, bank: ImageBank, pooling: str) -> FeatureTable:
        """Features of a bank, from the cache where it has them."""
        return self.cache.pooled(self.encoder, bank, pooling, batch=self.batch, device=self.device)

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Stages of a dense protocol; all of the encoder's where none are asked for.

        Raises:
            ConfigError: a stage that the encoder does not have.
        """
        return self.encoder.check_stages(asked or self.encoder.stages)

    def need_masks(self) -> None:
        """DataError where the data set has no part masks."""
        if not self.train.dataset.part_names:
            raise DataError(
                f"{self.train.dataset.name} has no part masks; choose another data set or protocol"
            )


@dataclass(frozen=True)
class Measured:
    """What a protocol found.

    selection: how hyper-parameters were chosen, in words. chosen: what was chosen. suffix: to tell
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


class EvaluationProtocol(Protocol):
    """A protocol of PROTOCOLS.md: a dataclass whose fields are its settings."""

    id: ClassVar[str]
    version: ClassVar[int]

    def check(self) -> None: ...

    def measure(self, bench: Bench) -> list[Measured]: ...


def run_protocol(
    protocol: EvaluationProtocol, bench: Bench, name: str = "encoder", commit: str | None = None
) -> list[Row]:
    """Measure, and say under which protocol.

    Args:
        name: of the arm in tables.
        commit: of the code, for the record.

    Raises:
        ConfigError, DataError: as the protocol.
    """
    protocol.check()
    began = time.monotonic()
    settings = plain(asdict(protocol))
    dataset, digest = bench.train.dataset, encoder_hash(bench.encoder)
    encoder = {
        "name": bench.encoder.name,
        "hash": digest,
        "arguments": plain(bench.encoder.model_args),
    }
    return [
        Row(
            name=f"{name}{measured.suffix}",
            protocol=protocol.id,
            version=protocol.version,
            data=dataset.name,
            splits=measured.splits,
            resolution=bench.test.size,
            fit=bench.test.fit.value,
            layer=measured.layer,
            pooling=measured.pooling,
            selection=measured.selection,
            seeds=measured.seeds,
            values=measured.values,
            settings=settings | ({"chosen": plain(measured.chosen)} if measured.chosen else {}),
            encoder=encoder,
            commit=commit,
            config_hash=config_hash(
                [protocol.id, protocol.version, settings, encoder, dataset.name, bench.test.size]
            ),
            seconds=round(time.monotonic() - began, 2),
        )
        for measured in protocol.measure(bench)
    ]


def plain(value: Any) -> Any:
    """Enums by name, tuples as lists: what JSON gives back."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def at_least(protocol: object, **limits: float) -> None:
    """ConfigError for the first field (or entry of a list) below its limit."""
    for key, limit in limits.items():
        value = getattr(protocol, key)
        entries = value if isinstance(value, list) else [value]
        if not entries or min(entries) < limit:
            raise ConfigError(
                f"protocol.{key}={value} must be at least {limit:g}"
                + ("" if entries else " and not []")
            )


def positive(protocol: object, *keys: str) -> None:
    """ConfigError for the first field (or entry of a list) that is not a positive, finite number."""
    for key in keys:
        value = getattr(protocol, key)
        entries = value if isinstance(value, list) else [value]
        if not entries or not all(0 < entry < float("inf") for entry in entries):
            raise ConfigError(f"protocol.{key}={value} must be positive")
