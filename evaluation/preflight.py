"""A look, before training, at everything that evaluation will read after it."""

from pathlib import Path

import numpy as np

from evaluation.masks import read_masks
from evaluation.part_segmentation import draw_shots
from evaluation.plan import plan_suite
from evaluation.suite import Banks, EvaluationConfig
from ssl_parts.data import DataConfig, ImageBank
from ssl_parts.data.records import without_ignored
from ssl_parts.data.remarks import counted
from ssl_parts.errors import DataError

CHUNK = 64  # masks read together


def look_ahead(
    data: DataConfig,
    config: EvaluationConfig,
    train: ImageBank | None = None,
    cache_dir: Path | None = None,
) -> Banks:
    """Open the test images, decode all of them, read the masks that will be needed, and settle
    what can be measured.

    Args:
        train: the bank that is trained on; opened here by default.
        cache_dir: of data.cache=disk.

    Returns:
        the banks, for `evaluate_encoder`.

    Raises:
        ConfigError: no such test split.
        DataError: test images or masks that cannot be read or do not fit, test masks without any
        part.
    """
    banks = Banks.of(data, train, cache_dir)
    plan = plan_suite(banks.train, banks.test, config.linear, config.shots, config.part_shots)
    if plan.part_shots:
        drawn = draw_shots(len(banks.train), plan.part_shots, config.part_draws, config.seed)
        check_masks(banks.train, np.unique(np.concatenate(drawn)))
        check_masks(banks.test, np.arange(len(banks.test)))
    return banks


def check_masks(bank: ImageBank, rows: np.ndarray) -> None:
    """Read these masks; they are kept for the evaluation.

    Raises:
        DataError: a mask that cannot be read or does not fit its image (the first five are named),
        or none with a part.
    """
    bad: list[str] = []
    parts = 0
    for start in range(0, len(rows), CHUNK):
        for row in rows[start : start + CHUNK]:
            try:
                parts += bool(without_ignored(read_masks(bank, row[None])[0]).any())
            except DataError as error:
                bad.append(str(error))
    split = f"{bank.dataset.name} ({bank.dataset.split})"
    if bad:
        listed = "\n  ".join(bad[:5])
        raise DataError(
            f"{counted(len(bad), 'part mask')} of {split} cannot be used:\n  {listed}\n"
            "mend them, or leave part segmentation out with evaluation.part_shots=0"
        )
    if not parts:
        raise DataError(say_empty(len(rows), split))


def say_empty(masks: int, split: str) -> str:
    """That nothing can be measured on masks without parts."""
    return (
        f"none of {counted(masks, 'mask')} of {split} holds a part; leave part segmentation out "
        f"with "
        "evaluation.part_shots=0"
    )
