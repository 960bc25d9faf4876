"""Few-shot part segmentation: parts (linear decoder) and parts_decoder (upsampling decoder, frozen
or fine-tuned).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from evaluation.masks import read_masks
from evaluation.part_segmentation import (
    SegmentationResult,
    draw_shots,
    few_shot_part_segmentation,
    summarise,
)
from evaluation.protocols.bench import Bench, Measured, at_least, positive
from evaluation.results import Measure
from evaluation.segmenter import LabelledImages, Segmenter, SegmenterConfig, train_segmenter
from evaluation.splits import folds
from ssl_parts.data import ImageBank
from ssl_parts.data.flip import left_right_pairs
from ssl_parts.errors import ConfigError


@dataclass
class PartsProtocol:
    """Linear decoder on frozen dense features."""

    id: ClassVar[str] = "parts"
    version: ClassVar[int] = 1

    # labelled images; 0: all training images
    shots: list[int] = field(default_factory=lambda: [1, 5, 10, 20, 0])
    draws: int = 3
    seed: int = 0
    layers: list[str] = field(default_factory=list)  # stages under the decoder; [] for all
    grid: int = 32  # cells a side
    weight_decay: float = 0.01
    balance: float = 0.5  # small parts weigh more: share ** -balance

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, shots=0, draws=1, seed=0, grid=1)
        positive(self, "weight_decay")
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"protocol.balance={self.balance} must lie in [0, 1]")

    def measure(self, bench: Bench) -> list[Measured]:
        """One result with values for each number of shots; DataError where there are no masks."""
        bench.need_masks()
        stages, values, most = bench.stages(self.layers), {}, 0
        for shots in self.shots:
            result = few_shot_part_segmentation(
                bench.encoder,
                bench.train,
                bench.test,
                shots or None,
                self.seed,
                draws=self.draws,
                stages=stages,
                grid=self.grid,
                weight_decay=self.weight_decay,
                balance=self.balance,
                batch=bench.batch,
                device=bench.device,
            )
            values |= _values(result, shots)
            most = max(most, result.shots)
        settled = f"none: weight decay {self.weight_decay:g}"
        splits = {"train": most, "val": 0, "test": len(bench.test)}
        return [
            Measured(
                values,
                splits,
                f"{'+'.join(stages)} at {self.grid}x{self.grid}",
                settled,
                [self.seed],
            )
        ]


def _values(result: SegmentationResult, shots: int) -> dict[str, Measure]:
    which = shots or "all"
    return {
        f"miou@{which}": Measure.of(result.draws),
        f"miou_with_background@{which}": Measure.of(result.draws_with_background),
    }


@dataclass
class PartsDecoderProtocol:
    """Upsampling decoder on the last map, the encoder frozen or fine-tuned."""

    id: ClassVar[str] = "parts_decoder"
    version: ClassVar[int] = 1

    # labelled images; 0: all training images
    shots: list[int] = field(default_factory=lambda: [20])
    # repetitions. All images: fold f is the validation images; few: draw f of the labelled images
    folds: int = 5
    # few: further labelled images that only choose the epoch; 0 takes the last epoch
    validation: int = 0
    seed: int = 0
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        at_least(self, shots=0, folds=1, validation=0, seed=0)
        if 0 in self.shots and self.folds < 2:
            raise ConfigError(
                "protocol.shots=0 (all images) needs protocol.folds of 2 or more: one fold validates"
            )
        self.segmenter.check()

    def measure(self, bench: Bench) -> list[Measured]:
        """One result with values for each number of shots; DataError where there are no masks."""
        bench.need_masks()
        values, chosen, used = {}, {}, (0, 0)
        for shots in self.shots:
            splits = labelled_splits(
                len(bench.train), shots, self.validation, self.folds, self.seed
            )
            trained = [self._train(bench, *split, fold) for fold, split in enumerate(splits)]
            counts = np.stack(
                [segmenter.counts(_chunks(bench.test, bench.batch)) for segmenter in trained]
            )
            values |= _values(_summary(counts, bench, self, len(splits[0][0])), shots)
            chosen[str(shots or "all")] = [segmenter.epoch for segmenter in trained]
            used = max(used, (len(splits[0][0]), len(splits[0][1])))
        layer = f"{bench.encoder.last_stage}, encoder {'fine-tuned' if self.segmenter.finetune else 'frozen'}"
        selection = (
            "epoch by mIoU on validation images"
            if used[1]
            else f"none: epoch {self.segmenter.epochs}"
        )
        splits_used = {"train": used[0], "val": used[1], "test": len(bench.test)}
        return [
            Measured(values, splits_used, layer, selection, [self.seed], "", {"epochs": chosen})
        ]

    def _train(
        self, bench: Bench, train: np.ndarray, validation: np.ndarray, fold: int
    ) -> Segmenter:
        names = bench.train.dataset.part_names
        multi_label = read_masks(bench.train, train[:1]).ndim == 4
        return train_segmenter(
            bench.encoder,
            _labelled(bench.train, train),
            _labelled(bench.train, validation) if len(validation) else None,
            len(names) + (not multi_label),
            self.segmenter,
            pairs=[(a + 1, b + 1) for a, b in left_right_pairs(names)],
            seed=self.seed + fold,
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


def _summary(
    counts: np.ndarray, bench: Bench, protocol: PartsDecoderProtocol, shots: int
) -> SegmentationResult:
    names = ("background", *bench.test.dataset.part_names)
    described = {"stages": (bench.encoder.last_stage,), "grid": 0, "converged": True}
    return summarise(counts, names, shots=shots, n_test=len(bench.test), **described)


__all__ = ["PartsDecoderProtocol", "PartsProtocol", "draw_shots", "labelled_splits"]
