"""Classification from frozen, pooled features: linear, linear_swept, few_label, knn."""

import numpy as np

from evaluation.crop_features import is_crops
from evaluation.features import FeatureTable, pooling_stages
from evaluation.knn import knn_classify
from evaluation.linear_probe import ProbeResult, Sweep, linear_probe, sweep_c
from evaluation.protocols.bench import Bench, Measured
from evaluation.protocols.config import (
    FewLabelProtocol,
    KnnProtocol,
    LinearProtocol,
    LinearSweptProtocol,
)
from evaluation.results import Measure
from evaluation.splits import few_label_indices, stratified_split


def measure_linear(protocol: LinearProtocol, bench: Bench) -> list[Measured]:
    """Fit a logistic regression on all training images; DataError as `linear_probe`."""
    train = bench.pooled(bench.train, protocol.pooling)
    result = _probe(protocol, bench, train, protocol.c)
    return [_measured(protocol, bench, train, result, f"none: C={protocol.c:g}")]


def measure_linear_swept(protocol: LinearSweptProtocol, bench: Bench) -> list[Measured]:
    """Choose C on a cut of the training images, then refit on all; DataError as `linear_probe`."""
    train = bench.pooled(bench.train, protocol.pooling)
    fit, val = stratified_split(train.labels, protocol.validation, protocol.seed)
    sweep = choose_c(train, fit, val, protocol, bench)
    result = _probe(protocol, bench, train, sweep.c)
    share = f"{100 * protocol.validation:g} % of train"
    selection = (
        f"validation ({share}): C={sweep.c:.3g} of {len(protocol.values)}, refit on train with them"
    )
    chosen = {"c": sweep.c, "validation_accuracies": list(sweep.accuracies)}
    return [_measured(protocol, bench, train, result, selection, len(val), chosen, protocol.seed)]


def choose_c(
    train: FeatureTable,
    fit: np.ndarray,
    val: np.ndarray,
    protocol: LinearSweptProtocol,
    bench: Bench,
) -> Sweep:
    """Sweep over C. Only training images come in here, so no test image can be seen."""
    x, y = train.pooled, train.labels
    return sweep_c(
        x[fit],
        y[fit],
        x[val],
        y[val],
        protocol.values,
        standardize=protocol.standardize,
        device=bench.device,
    )


def _probe(
    protocol: LinearProtocol | LinearSweptProtocol, bench: Bench, train: FeatureTable, c: float
) -> ProbeResult:
    test = bench.pooled(bench.test, protocol.pooling)
    return linear_probe(
        train.pooled,
        train.labels,
        test.pooled,
        test.labels,
        c,
        standardize=protocol.standardize,
        device=bench.device,
    )


def _measured(
    protocol: LinearProtocol | LinearSweptProtocol,
    bench: Bench,
    train: FeatureTable,
    result: ProbeResult,
    selection: str,
    held: int = 0,
    chosen: dict | None = None,
    seed: int | None = None,
) -> Measured:
    values = {
        "accuracy": Measure.of([result.accuracy], result.interval),
        "top5": Measure.of([result.top5]),
        "per_class": Measure.of([result.per_class_mean]),
    }
    return Measured(
        values,
        {"train": len(train), "val": held, "test": len(bench.test)},
        _layer(protocol.pooling, bench),
        selection,
        [] if seed is None else [seed],
        _described(protocol),
        (chosen or {}) | {"converged": result.converged},
    )


def _layer(pooling: str, bench: Bench) -> str:
    """The stages that a pooling reads; crops are averages of the encoder's own pooled feature."""
    read = "pooled" if is_crops(pooling) else pooling
    return "+".join(pooling_stages(bench.encoder, read))


def _described(protocol: LinearProtocol | LinearSweptProtocol | FewLabelProtocol) -> str:
    return f"{protocol.pooling}, {'standardised' if protocol.standardize else 'raw'}"


def measure_few_labels(protocol: FewLabelProtocol, bench: Bench) -> list[Measured]:
    """Fit a logistic regression on repeated draws of a few labels per class.

    Raises:
        DataError: a class has fewer images than labels are asked for.
    """
    train = bench.pooled(bench.train, protocol.pooling)
    test = bench.pooled(bench.test, protocol.pooling)
    seeds = [protocol.seed + r for r in range(protocol.draws)]
    values, most = {}, 0
    for shots in protocol.shots:
        count = shots if shots < 1 else int(shots)
        draws = [few_label_indices(train.labels, count, seed) for seed in seeds]
        accuracies = [_few_label_accuracy(protocol, bench, train, test, rows) for rows in draws]
        values[f"accuracy@{_named(shots)}"] = Measure.of(accuracies)
        most = max(most, len(draws[0]))
    return [
        Measured(
            values,
            {"train": most, "val": 0, "test": len(test)},
            _layer(protocol.pooling, bench),
            f"none: C={protocol.c:g}",
            seeds,
            _described(protocol),
        )
    ]


def _few_label_accuracy(
    protocol: FewLabelProtocol,
    bench: Bench,
    train: FeatureTable,
    test: FeatureTable,
    rows: np.ndarray,
) -> float:
    return linear_probe(
        train.pooled[rows],
        train.labels[rows],
        test.pooled,
        test.labels,
        protocol.c,
        standardize=protocol.standardize,
        device=bench.device,
    ).accuracy


def _named(shots: float) -> str:
    return f"{100 * shots:g}%" if shots < 1 else f"{int(shots)}"


def measure_knn(protocol: KnnProtocol, bench: Bench) -> list[Measured]:
    """Classify by nearest neighbours; ConfigError where no k fits the training images."""
    train = bench.pooled(bench.train, protocol.pooling)
    test = bench.pooled(bench.test, protocol.pooling)
    fitting = [k for k in protocol.k if k <= len(train)] or protocol.k
    results = knn_classify(
        train.pooled,
        train.labels,
        test.pooled,
        test.labels,
        fitting,
        temperature=protocol.temperature,
        device=bench.device,
    )
    values = {f"accuracy@k={k}": Measure.of([r.accuracy], r.interval) for k, r in results.items()}
    layer = _layer(protocol.pooling, bench)
    splits = {"train": len(train), "val": 0, "test": len(test)}
    return [Measured(values, splits, layer, "none: every k is shown", [], protocol.pooling)]
