"""The images of a supervised run, and the order in which training reads them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.finetuning.config import FinetuneConfig, Order, Select
from ssl_parts.data import ClassBalanced, ImageBank, batch_indices, build_bank
from ssl_parts.errors import ConfigError


def open_banks(
    config: FinetuneConfig, folder: Path
) -> tuple[ImageBank, ImageBank, ImageBank | None]:
    """Open training, test and (where train.select uses them) validation images.

    Raises:
        ConfigError: a data set without labels; a batch that does not fit it.
    """
    train = build_bank(config.data, cache_dir=folder / "cache")
    if len(train.dataset.classes) < 1 or train.labels.min() < 0:
        raise ConfigError(
            f"{train.dataset.name} has no labels in split {train.dataset.split}: fine-tuning needs "
            "them"
        )
    test = build_bank(config.data, config.data.test_split, cache_dir=folder / "cache")
    validating = config.train.select is Select.validation
    return (
        train,
        test,
        build_bank(config.data, "val", cache_dir=folder / "cache") if validating else None,
    )


def batch_order(config: FinetuneConfig, bank: ImageBank) -> Callable[[int], np.ndarray]:
    """Positions of the global batch as a function of the step: class-balanced, or a permutation
    of all images per pass.

    Raises:
        ConfigError: a batch that is no multiple of the images of a class.
    """
    train = config.train
    if config.order is Order.shuffled:
        return lambda step: batch_indices(step, train.batch, len(bank), config.run.seed)
    classes, rest = divmod(train.batch, train.images_per_class)
    if rest:
        raise ConfigError(
            f"train.batch={train.batch} is no multiple of train.images_per_class="
            f"{train.images_per_class}, which class-balanced batches need"
        )
    return ClassBalanced(bank.labels, classes, train.images_per_class, config.run.seed)
