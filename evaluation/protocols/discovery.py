"""Discovered parts against annotations that discovery has not seen."""

from collections.abc import Iterator
from dataclasses import replace

from evaluation.discovered_parts import PartScores, judge_parts
from evaluation.protocols.bench import Bench, Measured
from evaluation.protocols.config import DiscoveryProtocol, rounds_of
from evaluation.results import Measure
from ssl_parts.parts import PartStore, discover_parts
from ssl_parts.parts.dense.config import DenseConfig


def measure_discovery(protocol: DiscoveryProtocol, bench: Bench) -> list[Measured]:
    """Score parts that are discovered here, or those of each round of a run.

    Raises:
        PartDiscoveryError: a store of other images.
    """
    if protocol.run is None:
        return [_discover(protocol, bench)]
    return list(_score_rounds(protocol.run, bench))


def measures_of(scores: list[PartScores]) -> dict[str, Measure]:
    """Each score with its repetitions and its unit."""
    found = [each.as_dict() for each in scores]
    return {
        key: Measure.of([each[key] for each in found], unit=PartScores.unit_of(key))
        for key in found[0]
    }


def _score_rounds(run: str, bench: Bench) -> Iterator[Measured]:
    for folder in rounds_of(run):
        store = PartStore.open(folder)
        values = measures_of([judge_parts(store, bench.train)])
        layer = f"the run's parts, {store.size}x{store.size}"
        splits = {"train": len(bench.train), "val": 0, "test": 0}
        yield Measured(values, splits, layer, "none", [], suffix=f", {folder.parent.name}")


def _discover(protocol: DiscoveryProtocol, bench: Bench) -> Measured:
    parts = protocol.parts
    seeds, found = [parts.seed + r for r in range(protocol.draws)], []
    for seed in seeds:
        config = replace(parts, seed=seed)
        train = discover_parts(bench.encoder, bench.train, config, device=bench.device)
        test = discover_parts(bench.encoder, bench.test, config, device=bench.device, fitted=train)
        found.append(judge_parts(test, bench.test, train, bench.train))
    stages = parts.stages if isinstance(parts, DenseConfig) else []
    layer = f"{'+'.join(stages) or 'default stages'} at {parts.size}x{parts.size}"
    splits = {"train": len(bench.train), "val": 0, "test": len(bench.test)}
    return Measured(measures_of(found), splits, layer, "none", seeds)
