"""What a phase says about itself while it trains: terms of the loss, statistics of features, looks
at images.

Nothing here changes training: looks use evaluation mode and no random number, and labels are used
for watching only.
"""

import json
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_parts.data import Bank, evenly_spaced
from ssl_parts.encoders.modes import evaluating
from ssl_parts.engine.monitor import Guard, feature_std, part_entropy, rank_me
from ssl_parts.engine.neighbours import vote_of_neighbours
from ssl_parts.errors import TrainingError
from ssl_parts.objectives import Outputs
from ssl_parts.pretraining.harm import pooled_features

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ssl_parts.pretraining.phase import Phase

PATIENCE = 200  # steps without a shared part before a run stops
COLLAPSED, REPORTS = 0.005, 3  # feature_std below which, for so many reports in a row, a run stops
IMAGES, NEIGHBOURS = 512, 10  # of a look


class Watch:
    """Monitors of one phase. `see` waits for nothing; `report` and `look` do, and run every few
    steps.
    """

    def __init__(self, phase: "Phase", bank: Bank, accelerator: "Accelerator") -> None:
        self.phase, self.bank, self.accelerator = phase, bank, accelerator
        self.guard = Guard(accelerator.device, PATIENCE)
        self.collapsed = 0

    def report(self, terms: dict[str, Tensor], student: Outputs) -> dict[str, float]:
        """Means over processes: the terms, feature_std, rank_me, and part_entropy where there are
        parts.

        Raises:
            TrainingError: on every process: no shared part for long, or features that are all the
                same.
        """
        pooled = student.pooled_ND.detach()
        watched = {"feature_std": feature_std(pooled), "rank_me": rank_me(pooled)}
        if student.ids_NM is not None:
            watched["part_entropy"] = part_entropy(
                student.ids_NM, student.valid_NM, self.phase.parts.k
            )
        values = {name: self._mean(value) for name, value in {**terms, **watched}.items()}
        self.collapsed = self.collapsed + 1 if values["feature_std"] < COLLAPSED else 0
        if self.collapsed >= REPORTS:
            raise self._explain_collapse(values)
        return values

    def first_bad_step(self) -> int | None:
        """The first step whose loss was not finite on any process."""
        return self.guard.check(self.accelerator.gather)

    def look(self, student: nn.Module, teacher: nn.Module | None) -> dict[str, float]:
        """What the encoder makes of up to 512 training images, on the main process; {} on the
        others.

        knn: accuracy of 10 nearest neighbours, every second image asked of the others; where there
        are labels. teacher_agreement: mean cosine of pooled features of student and teacher.
        """
        if not self.accelerator.is_main_process:
            return {}
        rows = torch.from_numpy(evenly_spaced(len(self.bank), IMAGES))
        found: dict[str, float] = {}
        with evaluating(student):
            features_ND = pooled_features(student.encoder, self.bank, rows)
        if teacher is not None:
            with evaluating(teacher):
                target_ND = pooled_features(teacher.encoder, self.bank, rows)
            found["teacher_agreement"] = float(
                F.cosine_similarity(features_ND, target_ND, dim=1).mean()
            )
        labels_N = self.bank.labels[rows]
        if len(set(labels_N.tolist())) > 1 and labels_N.min() >= 0:
            found["knn"] = online_knn(features_ND, torch.from_numpy(labels_N))
        return found

    def _mean(self, value: Tensor) -> float:
        return float(self.accelerator.reduce(value.detach().float(), "mean"))

    def _explain_collapse(self, values: dict[str, float]) -> TrainingError:
        dump = self.phase.folder / "collapsed.json"
        dump.write_text(json.dumps(values, indent=1))
        return TrainingError(
            f"{self.phase.name} has collapsed: for {REPORTS} reports the features of all images were the same "
            f"(feature_std {values['feature_std']:.1g}); the last figures are in {dump}. Lower train.lr, raise "
            "train.batch, or use negatives (objective.instance_weight=1)"
        )


def online_knn(features_ND: Tensor, labels_N: Tensor) -> float:
    """Accuracy of odd rows classified by their neighbours among the even rows, in [0, 1]."""
    k = min(NEIGHBOURS, len(features_ND[::2]))
    classes = int(labels_N.max()) + 1
    ranked = vote_of_neighbours(
        features_ND[::2], labels_N[::2], features_ND[1::2], [k], classes=classes
    )
    hits_N = ranked[k][:, 0] == labels_N[1::2]
    return float(hits_N.double().mean())
