"""The objective of one step: named terms from what student and teacher saw in two views."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gather import global_mean, global_sum
from ssl_parts.objectives.network import Outputs, split_views
from ssl_parts.objectives.part_contrast import PartContrast, shared_parts


class Objective:
    """`objective(student, teacher) -> {"loss": ..., terms}`; terms are unweighted, "loss" is their weighted sum.

    Terms: `part` (PartContrast over parts), `instance` (the same loss with one part, the whole image: InfoNCE),
    `anchor` (1 - cosine between pooled and dense features and those of the frozen initial encoder; do no harm),
    `shared_parts` (a count, not a loss: parts an image that both views have).
    """

    def __init__(self, config: ObjectiveConfig, anchor_weight: float = 0.0) -> None:
        self.config, self.anchor_weight = config, anchor_weight
        self.contrast = PartContrast(config.temperature, config.local_negatives)
        self.instance_contrast = PartContrast(config.temperature)

    def __call__(
        self, student: Outputs, teacher: Outputs | None = None, initial: Outputs | None = None
    ) -> dict[str, Tensor]:
        """Without a teacher the student's own vectors are the targets."""
        teacher = student if teacher is None else teacher
        terms: dict[str, Tensor] = {}
        loss = torch.zeros((), device=student.pooled_ND.device)
        if student.part_NMD is not None:
            terms["part"], terms["shared_parts"] = self._parts(student, teacher)
            loss = loss + self.config.part_weight * terms["part"]
        if student.instance_ND is not None:
            terms["instance"] = self._instance(student.instance_ND, teacher.instance_ND)
            loss = loss + self.config.instance_weight * terms["instance"]
        if initial is not None and self.anchor_weight > 0:
            terms["anchor"] = anchor_term(student, initial)
            loss = loss + self.anchor_weight * terms["anchor"]
        return {"loss": loss, **terms}

    def _parts(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        ids, valid = split_views(student.ids_NM), split_views(student.valid_NM)
        loss = self.contrast(split_views(student.part_NMD), split_views(teacher.part_NMD), ids, valid)
        shared_B = shared_parts(ids, valid)
        count = torch.tensor(float(len(shared_B)), device=shared_B.device)
        return loss, global_sum(shared_B.sum()) / global_sum(count)

    def _instance(self, predictions_ND: Tensor, targets_ND: Tensor) -> Tensor:
        q, t = split_views(predictions_ND.unsqueeze(1)), split_views(targets_ND.unsqueeze(1))
        ids_B1 = torch.zeros(q[0].shape[:2], dtype=torch.long, device=q[0].device)
        valid_B1 = torch.ones_like(ids_B1, dtype=torch.bool)
        return self.instance_contrast(q, t, (ids_B1, ids_B1), (valid_B1, valid_B1))


def anchor_term(student: Outputs, initial: Outputs) -> Tensor:
    """Mean of 1 - cos over pooled features, plus the same over all cells of the dense map: a scalar in [0, 4]."""
    pooled_N = 1 - F.cosine_similarity(student.pooled_ND.float(), initial.pooled_ND.float(), dim=1)
    dense_NHW = 1 - F.cosine_similarity(student.map_NDHW.float(), initial.map_NDHW.float(), dim=1)
    rows_N = pooled_N + dense_NHW.flatten(1).mean(1)
    return global_mean(rows_N.sum(), torch.tensor(float(len(rows_N)), device=rows_N.device))
