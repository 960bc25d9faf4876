"""Figures that show whether a phase learns or collapses: statistics of features, online k-NN,
agreement of student and teacher.

Nothing here changes training: images are measured in evaluation mode and without random numbers,
and labels are used for watching only. Shapes: N views or images, D channels, M sampled parts.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from ssl_parts.data import Bank, evenly_spaced
from ssl_parts.encoders import Encoder
from ssl_parts.engine.monitor import average
from ssl_parts.engine.neighbours import vote_of_neighbours
from ssl_parts.engine.statistics import feature_std, part_entropy, rank_me
from ssl_parts.errors import TrainingError
from ssl_parts.files import write_atomic
from ssl_parts.objectives import Outputs
from ssl_parts.pretraining.harm import pool_features

COLLAPSED, REPORTS = 0.005, 3  # feature_std below which, for so many reports in a row, a run stops
IMAGES, NEIGHBOURS = 512, 10


class Watch:
    """Figures of one phase beside the terms of its loss; the host waits for them.

    Args:
        name: of the phase. folder: of the phase, where a collapse is described.
        k: number of part ids, 0 where the phase has none.
        bank: training images.
    """

    def __init__(
        self, name: str, folder: Path, k: int, bank: Bank, accelerator: Accelerator
    ) -> None:
        self.name, self.folder, self.k = name, folder, k
        self.bank, self.accelerator = bank, accelerator
        self.collapsed = 0

    def measure_outputs(self, student: Outputs) -> dict[str, float]:
        """Measure the student's last outputs, averaged over processes.

        Returns:
            feature_std, rank_me, and part_entropy where there are parts.

        Raises:
            TrainingError: on every process: features that have been all the same for three calls.
        """
        pooled_ND = student.pooled_ND.detach()
        found = {"feature_std": feature_std(pooled_ND), "rank_me": rank_me(pooled_ND)}
        parts = student.sampled_parts
        if parts is not None and self.k:
            found["part_entropy"] = part_entropy(parts.ids_BM, parts.valid_BM, self.k)
        values = {name: average(self.accelerator, value) for name, value in found.items()}
        self.collapsed = self.collapsed + 1 if values["feature_std"] < COLLAPSED else 0
        if self.collapsed >= REPORTS:
            raise self._explain_collapse(values)
        return values

    def measure_images(self, student: Encoder, teacher: Encoder | None) -> dict[str, float]:
        """Measure the encoders on up to 512 training images, on the main process; {} on others.

        Returns:
            teacher_agreement: mean cosine of pooled features of student and teacher, where there is
            one. knn: accuracy of 10 nearest neighbours, every second image classified by the
            others, where all have labels and these differ.
        """
        if not self.accelerator.is_main_process:
            return {}
        rows = torch.from_numpy(evenly_spaced(len(self.bank), IMAGES))
        found: dict[str, float] = {}
        features_ND = pool_features(student, self.bank, rows)
        if teacher is not None:
            target_ND = pool_features(teacher, self.bank, rows)
            cosine_N = F.cosine_similarity(features_ND, target_ND, dim=1)
            found["teacher_agreement"] = float(cosine_N.mean())
        labels_N = torch.from_numpy(self.bank.labels)[rows]
        if len(labels_N.unique()) > 1 and int(labels_N.min()) >= 0:
            found["knn"] = classify_online(features_ND, labels_N)
        return found

    def _explain_collapse(self, values: dict[str, float]) -> TrainingError:
        listed = self.folder / "collapsed.json"
        if self.accelerator.is_main_process:
            write_atomic(listed, json.dumps(values, indent=1))
        return TrainingError(
            f"{self.name} has collapsed: for {REPORTS} reports the features of all images were the "
            f"same (feature_std {values['feature_std']:.1g}); the last figures are in {listed}. "
            "Lower train.lr, raise train.batch, or use negatives (objective.particle.instance_weight=1)"
        )


def classify_online(features_ND: Tensor, labels_N: Tensor) -> float:
    """Accuracy, in [0, 1], of classifying odd rows by their nearest neighbours among even ones."""
    k, classes = min(NEIGHBOURS, len(labels_N[::2])), int(labels_N.max()) + 1
    ranked = vote_of_neighbours(
        features_ND[::2], labels_N[::2], features_ND[1::2], [k], classes=classes
    )
    hits = ranked[k][:, 0] == labels_N[1::2]
    return int(hits.sum()) / len(hits)
