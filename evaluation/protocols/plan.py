"""What can be measured on a data set, known before anything is trained or encoded.

A protocol runs on the images that it can use: those without a label, and test images of classes
that have no training image, are left out of classification; where a class has fewer images than
labels are asked for, fewer are drawn. Each such choice is a note, a sentence with names. What
cannot be measured at all is a DataError that says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.crop_features import CROPS
from evaluation.protocols.bench import Bench
from evaluation.protocols.config import (
    DiscoveryProtocol,
    EvaluationConfig,
    FewLabelProtocol,
    KnnProtocol,
    LinearProtocol,
    LinearSweptProtocol,
    MemoryProtocol,
    PartsProtocol,
    ProtocolConfig,
    TrainedDecoderProtocol,
)
from ssl_parts.data import ImageBank
from ssl_parts.errors import DataError

SHOWN = 5  # names in a note
BY_LABEL = (LinearProtocol, LinearSweptProtocol, FewLabelProtocol, KnnProtocol)
BY_MASK = (PartsProtocol, TrainedDecoderProtocol, MemoryProtocol)


@dataclass(frozen=True)
class Planned:
    """A protocol as it will run.

    Attributes:
        protocol: its settings, with fewer labels where there are not enough.
        train, test: positions of the images that it uses; None for all.
        notes: what was left out or changed, a sentence each.
    """

    protocol: ProtocolConfig
    train: np.ndarray | None = None
    test: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Plan:
    """The protocols that end a run.

    Attributes:
        planned: those that will run, in their order.
        notes: what is left out or changed, a sentence each, none twice.
    """

    planned: list[Planned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def measures(self) -> bool:
        """Whether anything is measured."""
        return bool(self.planned)


def plan_protocols(config: EvaluationConfig, train: ImageBank, test: ImageBank) -> Plan:
    """Plan every protocol of `config.protocols`; one that cannot run is a note.

    Part masks are asked for only where the data set names parts.
    """
    plan = Plan()
    for name in config.protocols:
        protocol = config.protocol(name)
        if isinstance(protocol, BY_MASK) and not train.dataset.part_names:
            continue
        try:
            planned = plan_protocol(protocol, train, test)
        except DataError as error:
            _say(plan, [f"{name} is not measured: {error}"])
            continue
        plan.planned.append(planned)
        _say(plan, planned.notes)
    return plan


def with_crops(plan: Plan) -> Plan:
    """The protocols of a plan that read pooled features, with averaged crops in their place."""
    planned = [
        replace(each, protocol=replace(each.protocol, pooling=CROPS))
        for each in plan.planned
        if isinstance(each.protocol, BY_LABEL)
    ]
    return Plan(planned, plan.notes)


def _say(plan: Plan, notes: Sequence[str]) -> None:
    plan.notes += [note for note in notes if note not in plan.notes]


def plan_protocol(protocol: ProtocolConfig, train: ImageBank, test: ImageBank) -> Planned:
    """The images that one protocol uses, and its settings.

    Raises:
        DataError: it cannot be measured on this data.
    """
    if isinstance(protocol, BY_LABEL):
        return _plan_classification(protocol, train, test)
    if isinstance(protocol, BY_MASK):
        return _plan_segmentation(protocol, train, test)
    assert isinstance(protocol, DiscoveryProtocol)
    return Planned(protocol)


def restrict(bench: Bench, planned: Planned) -> Bench:
    """The bench with the images that a planned protocol uses; the same object for the same ones."""
    if planned.train is None and planned.test is None:
        return bench
    return bench.restricted(planned.train, planned.test)


# ---------------------------------------------------------------- classification


def _plan_classification(protocol: ProtocolConfig, train: ImageBank, test: ImageBank) -> Planned:
    known = np.unique(train.labels[train.labels >= 0])
    if not len(known):
        raise DataError(f"the training images of {train.dataset.name} have no labels")
    if len(known) < 2:
        name = class_name(train, known[0])
        raise DataError(f"all labelled training images belong to one class, {name}")
    if not (test.labels >= 0).any():
        raise DataError(f"the test images of {test.dataset.name} have no labels")
    usable = np.isin(test.labels, known)
    if not usable.any():
        raise DataError("no test image belongs to a class that has training images")
    notes = [*_unlabelled(train, "training"), *_unlabelled(test, "test"), *_foreign(test, known)]
    if isinstance(protocol, FewLabelProtocol):
        protocol, said = _fewer_labels(protocol, train)
        notes += said
    return Planned(protocol, _positions(train.labels >= 0), _positions(usable), tuple(notes))


def _unlabelled(bank: ImageBank, which: str) -> list[str]:
    missing = np.flatnonzero(bank.labels < 0)
    if not len(missing):
        return []
    names = _some([bank.paths[i] for i in missing])
    return [f"{len(missing)} {which} images without a label are not used for it: {names}"]


def _foreign(test: ImageBank, known: np.ndarray) -> list[str]:
    foreign = (test.labels >= 0) & ~np.isin(test.labels, known)
    if not foreign.any():
        return []
    names = _some([class_name(test, label) for label in np.unique(test.labels[foreign])])
    return [
        f"{int(foreign.sum())} test images are left out, as their classes have no training image: "
        f"{names}"
    ]


def _fewer_labels(
    protocol: FewLabelProtocol, train: ImageBank
) -> tuple[FewLabelProtocol, list[str]]:
    labels, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    least = int(counts.min())
    if max(protocol.shots) <= least:
        return protocol, []
    shots = list(dict.fromkeys(min(shots, float(least)) for shots in protocol.shots))
    smallest = _some([class_name(train, label) for label in labels[counts == least]])
    asked = ", ".join(f"{shots:g}" for shots in protocol.shots if shots > least)
    return replace(protocol, shots=shots), [
        f"few_label draws {least} images of each class in place of {asked}, as there are no more of "
        f"{smallest}"
    ]


# ---------------------------------------------------------------- segmentation


def _plan_segmentation(protocol: ProtocolConfig, train: ImageBank, test: ImageBank) -> Planned:
    for bank, which in ((train, "training"), (test, "test")):
        if not bank.dataset.part_names:
            raise DataError(f"the {which} images of {bank.dataset.name} have no part masks")
    if not isinstance(protocol, PartsProtocol) or max(protocol.shots) <= len(train):
        return Planned(protocol)
    asked = ", ".join(str(shots) for shots in protocol.shots if shots > len(train))
    shots = list(dict.fromkeys(0 if s >= len(train) else s for s in protocol.shots))
    note = f"parts learns from all {len(train)} training images in place of {asked}"
    return Planned(replace(protocol, shots=shots), notes=(note,))


# ---------------------------------------------------------------- names


def class_name(bank: ImageBank, label: int) -> str:
    """What a class is called."""
    return repr(bank.dataset.classes[int(label)])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _positions(used: np.ndarray) -> np.ndarray | None:
    return None if used.all() else np.flatnonzero(used)
