"""Dense features as they are: retrieval, overcluster, discovery. Nothing is trained but k-means."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from evaluation.dense_retrieval import dense_retrieval, over_clustering
from evaluation.part_scores import judge_parts
from evaluation.protocols.bench import Bench, Measured, at_least, positive
from evaluation.results import Measure
from ssl_parts.errors import ConfigError
from ssl_parts.parts import DatasetConfig, PartsConfig, PartStore, discover_parts


@dataclass
class RetrievalProtocol:
    """Label transfer from the nearest labelled cells."""

    id: ClassVar[str] = "retrieval"
    version: ClassVar[int] = 1

    images: int = 200  # training images whose cells make the memory; fewer where the set has fewer
    draws: int = 3  # of those images; draw r uses seed + r
    seed: int = 0
    layers: list[str] = field(default_factory=list)  # [] for the last stage
    grid: int = 16
    k: int = 30
    temperature: float = 0.05
    memory: int = 50_000  # cells

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, images=1, draws=1, seed=0, grid=1, k=1, memory=1)
        positive(self, "temperature")

    def measure(self, bench: Bench) -> list[Measured]:
        """One result; DataError where there are no masks or parts overlap."""
        bench.need_masks()
        stages = bench.stages(self.layers or [bench.encoder.last_stage])
        seeds, looks = [self.seed + r for r in range(self.draws)], []
        for seed in seeds:
            looks.append(
                dense_retrieval(
                    bench.encoder,
                    bench.train,
                    bench.test,
                    draw_images(bench, self.images, seed),
                    stages=stages,
                    grid=self.grid,
                    k=self.k,
                    temperature=self.temperature,
                    memory=self.memory,
                    seed=seed,
                    batch=bench.batch,
                    device=bench.device,
                )
            )
        values = {
            "miou": Measure.of([look.miou for look in looks]),
            "miou_with_background": Measure.of([look.miou_with_background for look in looks]),
            "precision@1": Measure.of([look.precision for look in looks]),
        }
        return [
            Measured(values, _splits(bench, self.images), _layer(stages, self.grid), "none", seeds)
        ]


@dataclass
class OverclusterProtocol:
    """Many clusters, each named after a part."""

    id: ClassVar[str] = "overcluster"
    version: ClassVar[int] = 1

    # all are reported, none is chosen
    clusters: list[int] = field(default_factory=lambda: [50, 200])
    images: int = 200
    draws: int = 3
    seed: int = 0
    layers: list[str] = field(default_factory=list)  # [] for the last stage
    grid: int = 16
    memory: int = 20_000

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, clusters=2, images=1, draws=1, seed=0, grid=1, memory=2)

    def measure(self, bench: Bench) -> list[Measured]:
        """One result with a value for each number of clusters; DataError where there are no masks
        or parts overlap.
        """
        bench.need_masks()
        stages = bench.stages(self.layers or [bench.encoder.last_stage])
        seeds, values = [self.seed + r for r in range(self.draws)], {}
        shared = {"stages": stages, "grid": self.grid, "memory": self.memory}
        place = {"batch": bench.batch, "device": bench.device}
        for count in self.clusters:
            looks = []
            for seed in seeds:
                images = draw_images(bench, self.images, seed)
                options = shared | place | {"seed": seed}
                looks.append(
                    over_clustering(
                        bench.encoder, bench.train, bench.test, images, count, **options
                    )
                )
            values[f"miou@{count}"] = Measure.of([look.miou for look in looks])
            values[f"miou_with_background@{count}"] = Measure.of(
                [look.miou_with_background for look in looks]
            )
        return [
            Measured(values, _splits(bench, self.images), _layer(stages, self.grid), "none", seeds)
        ]


def draw_images(bench: Bench, count: int, seed: int) -> np.ndarray:
    """Sorted positions of a seeded choice of training images."""
    return np.sort(np.random.default_rng(seed).permutation(len(bench.train))[:count])


def _splits(bench: Bench, images: int) -> dict[str, int]:
    return {"train": min(images, len(bench.train)), "val": 0, "test": len(bench.test)}


def _layer(stages: tuple[str, ...], grid: int) -> str:
    return f"{'+'.join(stages)} at {grid}x{grid}"


@dataclass
class DiscoveryProtocol:
    """Discovered parts against keypoints, masks and boxes that discovery has not seen (METHODS
    §6).
    """

    id: ClassVar[str] = "discovery"
    version: ClassVar[int] = 1

    run: str | None = None  # a run's folder: judge the stores of its rounds on its training images
    draws: int = 3  # k-means seeds, where parts are discovered here
    parts: PartsConfig = field(default_factory=DatasetConfig)

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, draws=1)
        self.parts.check()
        if self.run is not None and not rounds_of(self.run):
            raise ConfigError(
                f"protocol.run={self.run} has no round_*/parts; give the folder of a run"
            )

    def measure(self, bench: Bench) -> list[Measured]:
        """One result, or one a round; PartDiscoveryError where a store is of other images."""
        return list(self._rounds(bench)) if self.run is not None else [self._discover(bench)]

    def _rounds(self, bench: Bench) -> Iterator[Measured]:
        for folder in rounds_of(self.run):
            store = PartStore.open(folder)
            scores = judge_parts(store, bench.train).as_dict()
            values = {key: Measure.of([value]) for key, value in scores.items()}
            layer = f"the run's parts, {store.size}x{store.size}"
            splits = {"train": len(bench.train), "val": 0, "test": 0}
            yield Measured(values, splits, layer, "none", [], "", {}, f", {folder.parent.name}")

    def _discover(self, bench: Bench) -> Measured:
        seeds, found = [self.parts.seed + r for r in range(self.draws)], []
        for seed in seeds:
            config = replace(self.parts, seed=seed)
            train = discover_parts(bench.encoder, bench.train, config, device=bench.device)
            test = discover_parts(
                bench.encoder, bench.test, config, device=bench.device, fitted=train
            )
            found.append(judge_parts(test, bench.test, train, bench.train).as_dict())
        values = {key: Measure.of([scores[key] for scores in found]) for key in found[0]}
        layer = f"{'+'.join(self.parts.dense.stages) or 'default stages'} at {self.parts.size}x{self.parts.size}"
        splits = {"train": len(bench.train), "val": 0, "test": len(bench.test)}
        return Measured(values, splits, layer, "none", seeds)


def rounds_of(run: str) -> list[Path]:
    """Part stores of a run, in order."""
    return sorted(path for path in Path(run).glob("round_*/parts") if path.is_dir())
