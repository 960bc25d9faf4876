"""Classification from frozen, pooled features: linear, few_label, knn."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from evaluation.features import FeatureTable, pooling_stages
from evaluation.knn import knn_classify
from evaluation.linear_probe import C_VALUES, ProbeResult, few_label_indices, linear_probe, sweep_c
from evaluation.protocols.bench import Bench, Measured, at_least, positive
from evaluation.results import Measure
from evaluation.splits import stratified_split
from ssl_parts.errors import ConfigError


@dataclass
class LinearProtocol:
    """Logistic regression on all training labels."""

    id: ClassVar[str] = "linear"
    version: ClassVar[int] = 1

    c: float = 1.0  # where sweep is off: the paper's value
    # choose C on validation images cut from the training images, then refit on all of them
    sweep: bool = False
    sweep_values: list[float] = field(default_factory=lambda: list(C_VALUES))
    validation: float = 0.1  # share of each class that the sweep is judged on
    seed: int = 0  # of that cut
    pooling: str = "pooled"  # evaluation.features.POOLINGS
    standardize: bool = False  # zero mean, unit deviation; the paper uses raw features

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        positive(self, "c", "sweep_values")
        at_least(self, seed=0)
        if not 0 < self.validation < 1:
            raise ConfigError(f"protocol.validation={self.validation} is a share between 0 and 1")

    def measure(self, bench: Bench) -> list[Measured]:
        """One result; DataError as `linear_probe`."""
        train = bench.pooled(bench.train, self.pooling)
        c, selection, held, chosen = self.c, f"none: C={self.c:g}", 0, {}
        if self.sweep:
            fit, val = stratified_split(train.labels, self.validation, self.seed)
            sweep = choose_c(train, fit, val, self, bench)
            c, held, chosen = (
                sweep.c,
                len(val),
                {"c": sweep.c, "validation_accuracies": list(sweep.accuracies)},
            )
            share = f"{100 * self.validation:g} % of train"
            selection = f"validation ({share}): C={c:.3g} of {len(self.sweep_values)}, refit on train with them"
        test = bench.pooled(bench.test, self.pooling)
        result = linear_probe(
            train.pooled,
            train.labels,
            test.pooled,
            test.labels,
            c,
            standardize=self.standardize,
            device=bench.device,
            names=bench.train.dataset.classes,
        )
        return [
            Measured(
                _accuracies(result),
                {"train": len(train), "val": held, "test": len(test)},
                "+".join(pooling_stages(bench.encoder, self.pooling)),
                selection,
                [self.seed] if self.sweep else [],
                f"{self.pooling}, {'standardised' if self.standardize else 'raw'}",
                chosen | {"converged": result.converged},
            )
        ]


def choose_c(
    train: FeatureTable, fit: np.ndarray, val: np.ndarray, protocol: LinearProtocol, bench: Bench
) -> object:
    """The sweep over C: it is given training images only, so it cannot see a test image."""
    x, y = train.pooled, train.labels
    return sweep_c(
        x[fit],
        y[fit],
        x[val],
        y[val],
        protocol.sweep_values,
        standardize=protocol.standardize,
        device=bench.device,
    )


def _accuracies(result: ProbeResult) -> dict[str, Measure]:
    return {
        "accuracy": Measure.of([result.accuracy], result.interval),
        "top5": Measure.of([result.top5]),
        "per_class": Measure.of([result.per_class_mean]),
    }


@dataclass
class FewLabelProtocol:
    """Logistic regression on a few labels of each class, over repeated draws; C is fixed, so
    nothing is selected.
    """

    id: ClassVar[str] = "few_label"
    version: ClassVar[int] = 1

    # images a class; below 1: share of each
    shots: list[float] = field(default_factory=lambda: [1.0, 5.0, 10.0, 0.1])
    draws: int = 5  # draw r uses seed + r
    seed: int = 0
    c: float = 1.0
    pooling: str = "pooled"
    standardize: bool = True  # with the mean and deviation of the few

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        positive(self, "c", "shots")
        at_least(self, draws=1, seed=0)

    def measure(self, bench: Bench) -> list[Measured]:
        """One result with a value for each number of shots; DataError where a class has fewer
        images.
        """
        train, test = (
            bench.pooled(bench.train, self.pooling),
            bench.pooled(bench.test, self.pooling),
        )
        seeds = [self.seed + r for r in range(self.draws)]
        values, most = {}, 0
        for shots in self.shots:
            names = bench.train.dataset.classes
            rows = [
                few_label_indices(train.labels, _count(shots), seed, names=names) for seed in seeds
            ]
            values[f"accuracy@{_say(shots)}"] = Measure.of(
                [self._probe(bench, train, test, r) for r in rows]
            )
            most = max(most, len(rows[0]))
        return [
            Measured(
                values,
                {"train": most, "val": 0, "test": len(test)},
                "+".join(pooling_stages(bench.encoder, self.pooling)),
                f"none: C={self.c:g}",
                seeds,
                f"{self.pooling}, {'standardised' if self.standardize else 'raw'}",
            )
        ]

    def _probe(
        self, bench: Bench, train: FeatureTable, test: FeatureTable, rows: np.ndarray
    ) -> float:
        x, y = train.pooled[rows], train.labels[rows]
        names = bench.train.dataset.classes
        options = {"standardize": self.standardize, "device": bench.device, "names": names}
        return linear_probe(x, y, test.pooled, test.labels, self.c, **options).accuracy


def _count(shots: float) -> int | float:
    """A whole number of images of each class, or a share below 1."""
    if shots < 1:
        return shots
    if shots != int(shots):
        raise ConfigError(f"protocol.shots={shots}: a whole number of images, or a share below 1")
    return int(shots)


def _say(shots: float) -> str:
    return f"{100 * shots:g}%" if shots < 1 else f"{int(shots)}"


@dataclass
class KnnProtocol:
    """Weighted nearest neighbours by cosine. Every k is reported, none is chosen."""

    id: ClassVar[str] = "knn"
    version: ClassVar[int] = 1

    # those above the training images are left out
    k: list[int] = field(default_factory=lambda: [10, 20, 100, 200])
    temperature: float = 0.07
    pooling: str = "pooled"

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, k=1)
        positive(self, "temperature")

    def measure(self, bench: Bench) -> list[Measured]:
        """One result with a value for each k; ConfigError where no k fits the training images."""
        train, test = (
            bench.pooled(bench.train, self.pooling),
            bench.pooled(bench.test, self.pooling),
        )
        fitting = [k for k in self.k if k <= len(train)] or self.k
        options = {"temperature": self.temperature, "device": bench.device}
        results = knn_classify(
            train.pooled, train.labels, test.pooled, test.labels, fitting, **options
        )
        values = {
            f"accuracy@k={k}": Measure.of([r.accuracy], r.interval) for k, r in results.items()
        }
        layer = "+".join(pooling_stages(bench.encoder, self.pooling))
        splits = {"train": len(train), "val": 0, "test": len(test)}
        return [Measured(values, splits, layer, "none: every k is shown", [], self.pooling)]
