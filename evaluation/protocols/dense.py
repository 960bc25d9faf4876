"""Dense features as they are: retrieval, overcluster. Nothing is trained but k-means."""

import numpy as np

from evaluation.dense_retrieval import retrieve_labels
from evaluation.over_clustering import segment_by_clusters
from evaluation.protocols.bench import Bench, Measured
from evaluation.protocols.config import OverclusterProtocol, RetrievalProtocol
from evaluation.results import Measure


def measure_retrieval(protocol: RetrievalProtocol, bench: Bench) -> list[Measured]:
    """Transfer labels from the nearest cells; DataError without masks or where parts overlap."""
    bench.need_masks()
    seeds, found = _seeds(protocol), []
    for seed in seeds:
        images = draw_images(bench, protocol.images, seed)
        found.append(
            retrieve_labels(
                bench.encoder,
                bench.train,
                bench.test,
                images,
                protocol,
                seed=seed,
                batch=bench.batch,
                device=bench.device,
            )
        )
    values = {
        "miou": Measure.of([each.miou for each in found]),
        "miou_with_background": Measure.of([each.miou_with_background for each in found]),
        "precision@1": Measure.of([each.precision for each in found if each.precision is not None]),
    }
    return [_measured(protocol, bench, values, seeds)]


def measure_overclustering(protocol: OverclusterProtocol, bench: Bench) -> list[Measured]:
    """Segment by named clusters; DataError without masks or where parts overlap."""
    bench.need_masks()
    seeds, values = _seeds(protocol), {}
    for count in protocol.clusters:
        found = []
        for seed in seeds:
            images = draw_images(bench, protocol.images, seed)
            found.append(
                segment_by_clusters(
                    bench.encoder,
                    bench.train,
                    bench.test,
                    images,
                    count,
                    protocol,
                    seed=seed,
                    batch=bench.batch,
                    device=bench.device,
                )
            )
        values[f"miou@{count}"] = Measure.of([each.miou for each in found])
        values[f"miou_with_background@{count}"] = Measure.of(
            [each.miou_with_background for each in found]
        )
    return [_measured(protocol, bench, values, seeds)]


def draw_images(bench: Bench, count: int, seed: int) -> np.ndarray:
    """Sorted positions of a seeded choice of training images."""
    return np.sort(np.random.default_rng(seed).permutation(len(bench.train))[:count])


def _seeds(protocol: RetrievalProtocol | OverclusterProtocol) -> list[int]:
    return [protocol.seed + r for r in range(protocol.draws)]


def _measured(
    protocol: RetrievalProtocol | OverclusterProtocol,
    bench: Bench,
    values: dict[str, Measure],
    seeds: list[int],
) -> Measured:
    stages = bench.stages(protocol.layers or [bench.encoder.last_stage])
    splits = {
        "train": min(protocol.images, len(bench.train)),
        "val": 0,
        "test": len(bench.test),
    }
    layer = f"{'+'.join(stages)} at {protocol.grid}x{protocol.grid}"
    return Measured(values, splits, layer, "none", seeds)
