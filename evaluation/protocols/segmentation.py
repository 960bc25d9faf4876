"""Few-shot part segmentation: parts (linear decoder), parts_decoder and parts_finetune (upsampling
decoder on the frozen and on the fine-tuned encoder).
"""

from collections.abc import Iterator

import numpy as np

from evaluation.masks import read_masks
from evaluation.part_segmentation import (
    SegmentationResult,
    few_shot_part_segmentation,
    summarise,
)
from evaluation.protocols.bench import Bench, Measured
from evaluation.protocols.config import PartsProtocol, TrainedDecoderProtocol
from evaluation.results import Measure
from evaluation.segmenter import LabelledImages, Segmenter, train_segmenter
from evaluation.splits import folds
from ssl_parts.data import ImageBank
from ssl_parts.data.flip import left_right_pairs
from ssl_parts.errors import ConfigError


def measure_parts(protocol: PartsProtocol, bench: Bench) -> list[Measured]:
    """Fit linear decoders, for each number of labelled images; DataError without masks."""
    bench.need_masks()
    stages, values, converged = bench.stages(protocol.layers), {}, True
    for shots in protocol.shots:
        result = few_shot_part_segmentation(
            bench.encoder,
            bench.train,
            bench.test,
            shots or None,
            protocol,
            batch=bench.batch,
            device=bench.device,
        )
        values |= _values(result, shots)
        converged &= result.converged
    most = max(shots or len(bench.train) for shots in protocol.shots)
    return [
        Measured(
            values,
            {"train": most, "val": 0, "test": len(bench.test)},
            f"{'+'.join(stages)} at {protocol.grid}x{protocol.grid}",
            f"none: weight decay {protocol.weight_decay:g}",
            [protocol.seed],
            chosen={"converged": converged},
        )
    ]


def _values(result: SegmentationResult, shots: int) -> dict[str, Measure]:
    which = shots or "all"
    return {
        f"miou@{which}": Measure.of(result.draws),
        f"miou_with_background@{which}": Measure.of(result.draws_with_background),
    }


def measure_trained_decoder(protocol: TrainedDecoderProtocol, bench: Bench) -> list[Measured]:
    """Train upsampling decoders, for each number of labelled images; DataError without masks."""
    bench.need_masks()
    names = ("background", *bench.test.dataset.part_names)
    values, chosen, used = {}, {}, (0, 0)
    for shots in protocol.shots:
        splits = labelled_splits(
            len(bench.train), shots, protocol.validation, protocol.folds, protocol.seed
        )
        trained = [_train(protocol, bench, *split, fold) for fold, split in enumerate(splits)]
        counts = [segmenter.counts(_chunks(bench.test, bench.batch)) for segmenter in trained]
        values |= _values(summarise(np.stack(counts), names), shots)
        chosen[str(shots or "all")] = [segmenter.epoch for segmenter in trained]
        used = max(used, (len(splits[0][0]), len(splits[0][1])))
    frozen = "fine-tuned" if protocol.finetune else "frozen"
    last = f"none: epoch {protocol.segmenter.epochs}"
    return [
        Measured(
            values,
            {"train": used[0], "val": used[1], "test": len(bench.test)},
            f"{bench.encoder.last_stage}, encoder {frozen}",
            "epoch by mIoU on validation images" if used[1] else last,
            [protocol.seed],
            chosen={"epochs": chosen},
        )
    ]


def _train(
    protocol: TrainedDecoderProtocol,
    bench: Bench,
    train: np.ndarray,
    validation: np.ndarray,
    fold: int,
) -> Segmenter:
    names = bench.train.dataset.part_names
    multi_label = read_masks(bench.train, train[:1]).ndim == 4
    return train_segmenter(
        bench.encoder,
        _labelled(bench.train, train),
        _labelled(bench.train, validation) if len(validation) else None,
        len(names) + (not multi_label),
        protocol.segmenter,
        finetune=protocol.finetune,
        pairs=[(a + 1, b + 1) for a, b in left_right_pairs(names)],
        seed=protocol.seed + fold,
        device=bench.device,
    )


def labelled_splits(
    images: int, shots: int, validation: int, count: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training, validation) positions of each fold, all among the training images and disjoint.

    Raises:
        ConfigError: more labelled images than there are.
    """
    if shots == 0:
        held = folds(images, count, seed)
        return [(np.setdiff1d(np.arange(images), part), part) for part in held]
    if shots + validation > images:
        raise ConfigError(
            f"{shots} shots and {validation} validation images of {images} training images"
        )
    drawn = [
        np.random.default_rng([seed, f]).permutation(images)[: shots + validation]
        for f in range(count)
    ]
    return [(np.sort(d[:shots]), np.sort(d[shots:])) for d in drawn]


def _labelled(bank: ImageBank, indices: np.ndarray) -> LabelledImages:
    return LabelledImages(bank.images(indices), read_masks(bank, indices))


def _chunks(bank: ImageBank, batch: int) -> Iterator[LabelledImages]:
    for start in range(0, len(bank), batch):
        yield _labelled(bank, np.arange(start, min(start + batch, len(bank))))
