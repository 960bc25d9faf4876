"""What the protocols that end a run can measure on the images there are: settled before training.

A protocol that cannot be measured is left out, and one that can be measured on some images is
measured on those; either is said, with the names of classes, and stands in the result's note.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_parts.data import ImageBank, PartsDataset
from ssl_parts.data.remarks import counted, first_of, say_once


@dataclass(frozen=True)
class SuitePlan:
    """Positions and numbers that the protocols use.

    linear: whether there is a probe. train_rows, test_rows: labelled training images, and the test
    images of their classes. shots: labelled images per class, of smaller classes all. part_shots:
    images with masks, 0 for no part segmentation. said: what is left out, as sentences.
    """

    linear: bool
    train_rows: np.ndarray
    test_rows: np.ndarray
    part_shots: int
    said: tuple[str, ...]


def is_annotated(dataset: PartsDataset) -> bool:
    """Whether a run on this set ends with a table: it has classes and labels, or part masks."""
    labelled = len(dataset.classes) > 1 and bool((dataset.labels >= 0).any())
    return labelled or len(dataset.part_names) > 0


def plan_suite(
    train: ImageBank, test: ImageBank, linear: bool, shots: int, part_shots: int
) -> SuitePlan:
    """The plan for these images; its sentences are logged once.

    Args:
        linear, shots, part_shots: what `EvaluationConfig` asks for.
    """
    said: list[str] = []
    train_rows = test_rows = np.zeros(0, dtype=np.int64)
    if len(train.dataset.classes) > 1 and (linear or shots):
        train_rows, test_rows = _labelled_rows(train, test, said)
    if shots and len(train_rows):
        _say_small_classes(train, train_rows, shots, said)
    part_shots = part_shots if train.dataset.part_names else 0
    if part_shots > len(train):
        said.append(
            f"part segmentation: evaluation.part_shots={part_shots}, but there are {len(train)} "
            f"training images; all of "
            "them are used, in one draw"
        )
    for sentence in said:
        say_once(sentence)
    return SuitePlan(
        len(train_rows) > 0, train_rows, test_rows, min(part_shots, len(train)), tuple(said)
    )


def _labelled_rows(
    train: ImageBank, test: ImageBank, said: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions for the probe; none where it has to be left out."""
    classes, nothing = train.dataset.classes, np.zeros(0, dtype=np.int64)
    train_rows = np.flatnonzero(train.labels >= 0)
    known = np.unique(train.labels[train_rows])
    if len(known) < 2:
        said.append(
            f"linear probe left out: {counted(len(known), 'class', 'classes')} among the "
            f"{len(train)} images of split "
            f"{train.dataset.split}"
        )
        return nothing, nothing
    if len(train_rows) < len(train):
        lacking = counted(len(train) - len(train_rows), "training image")
        said.append(f"linear probe: {lacking} without a label left out")
    test_rows = _test_rows(test, known, classes, said)
    return (train_rows, test_rows) if len(test_rows) else (nothing, nothing)


def _test_rows(
    test: ImageBank, known: np.ndarray, classes: Sequence[str], said: list[str]
) -> np.ndarray:
    labelled = test.labels >= 0
    used = np.isin(test.labels, known)
    unseen = np.unique(test.labels[labelled & ~used])
    if len(unseen):
        images = counted(int((labelled & ~used).sum()), "test image")
        names = first_of(classes[label] for label in unseen)
        said.append(
            f"linear probe: {images} left out, of classes without a training image: {names}"
        )
    if not labelled.all():
        images = counted(int((~labelled).sum()), "test image")
        said.append(f"linear probe: {images} of {len(test)} without a label left out")
    if not used.any():
        said.append(
            f"linear probe left out: no image of split {test.dataset.split} can be judged "
            f"(data.test_split names another)"
        )
    return np.flatnonzero(used)


def _say_small_classes(train: ImageBank, rows: np.ndarray, shots: int, said: list[str]) -> None:
    labels, counts = np.unique(train.labels[rows], return_counts=True)
    small = [(train.dataset.classes[k], n) for k, n in zip(labels, counts.tolist()) if n < shots]
    if small:
        names = first_of(f"{name} ({n})" for name, n in small)
        said.append(
            f"few labels: evaluation.shots={shots}, but "
            f"{counted(len(small), 'class has', 'classes have')} fewer training "
            f"images, of which all are used: {names}"
        )
