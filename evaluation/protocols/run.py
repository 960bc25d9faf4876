"""From a protocol and a bench to rows of results.json. One path for every number that is printed:
`launch/evaluate.py` and the end of a run both come through `run_protocol`.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from typing import Any

from evaluation.protocols.bench import Bench, Measured
from evaluation.protocols.classification import (
    measure_few_labels,
    measure_knn,
    measure_linear,
    measure_linear_swept,
)
from evaluation.protocols.config import ProtocolConfig
from evaluation.protocols.dense import measure_overclustering, measure_retrieval
from evaluation.protocols.discovery import measure_discovery
from evaluation.protocols.segmentation import measure_parts, measure_trained_decoder
from evaluation.results import Row, config_hash
from ssl_parts.encoders import encoder_hash

MEASURES: dict[str, Callable[[Any, Bench], list[Measured]]] = {
    "linear": measure_linear,
    "linear_swept": measure_linear_swept,
    "few_label": measure_few_labels,
    "knn": measure_knn,
    "parts": measure_parts,
    "parts_decoder": measure_trained_decoder,
    "parts_finetune": measure_trained_decoder,
    "retrieval": measure_retrieval,
    "overcluster": measure_overclustering,
    "discovery": measure_discovery,
}


def run_protocol(
    protocol: ProtocolConfig, bench: Bench, name: str = "encoder", commit: str | None = None
) -> list[Row]:
    """Measure, and say under which protocol.

    Args:
        name: of the arm in tables.
        commit: of the code, for the record.

    Raises:
        ConfigError, DataError: as the protocol's function in `MEASURES`.
    """
    protocol.check()
    began = time.monotonic()
    found = MEASURES[protocol.id](protocol, bench)
    seconds = round(time.monotonic() - began, 2)
    return [_row(protocol, bench, each, name, commit, seconds) for each in found]


def _row(
    protocol: ProtocolConfig,
    bench: Bench,
    measured: Measured,
    name: str,
    commit: str | None,
    seconds: float,
) -> Row:
    settings = plain_settings(protocol)
    encoder = {
        "name": bench.encoder.name,
        "hash": encoder_hash(bench.encoder),
        "arguments": plain(bench.encoder.model_args),
    }
    images = [bench.data_name, bench.test.size, len(bench.train), len(bench.test)]
    return Row(
        name=f"{name}{measured.suffix}",
        protocol=protocol.id,
        version=protocol.version,
        data=bench.data_name,
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
        config_hash=config_hash([protocol.id, protocol.version, settings, encoder, images]),
        seconds=seconds,
    )


def plain_settings(protocol: ProtocolConfig) -> dict[str, Any]:
    """The settings as results.json keeps them."""
    return plain(asdict(protocol))


def plain(value: Any) -> Any:
    """Enums by name, tuples as lists: what JSON gives back."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
