"""The objective of one step: the terms of the chosen method, and what keeps the encoder near its
start.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gather import global_mean
from ssl_parts.objectives.network import Outputs
from ssl_parts.objectives.registry import METHODS

if TYPE_CHECKING:
    from ssl_parts.views import Views


class Objective(nn.Module):
    """`objective(student, teacher) -> {"loss": ..., terms}`; terms are unweighted, "loss" is their
    weighted sum.

    Terms: those of the method (`methods.py`), and `anchor` (1 - cosine between pooled and dense
    features and those of the frozen initial encoder; do no harm). Its state (queues, centres)
    belongs into a checkpoint.
    """

    def __init__(self, config: ObjectiveConfig, anchor_weight: float = 0.0) -> None:
        super().__init__()
        self.anchor_weight = anchor_weight
        self.method = METHODS[config.method](config)

    @property
    def has_teacher(self) -> bool:
        return self.method.has_teacher

    def network(self, encoder: Encoder, k: int = 0, background: int | None = None) -> nn.Module:
        """The student; k part ids, of which `background` is no part unless the method takes it for
        one.
        """
        return self.method.network(encoder, k, background)

    def forward(
        self,
        student: Outputs,
        teacher: Outputs | None = None,
        initial: Outputs | None = None,
        views: "Views | None" = None,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Without a teacher the student's own vectors are the targets; progress is the share of
        the phase done.
        """
        terms = self.method(student, student if teacher is None else teacher, views, progress)
        if initial is not None and self.anchor_weight > 0:
            terms["anchor"] = anchor_term(student, initial)
            terms["loss"] = terms["loss"] + self.anchor_weight * terms["anchor"]
        return terms

    def before_update(self, network: nn.Module, progress: float) -> None:
        """Last word on the gradients of the (unwrapped) student before the optimiser's step."""
        self.method.before_update(network, progress)


def anchor_term(student: Outputs, initial: Outputs) -> Tensor:
    """Mean of 1 - cos over pooled features, plus the same over all cells of the dense map: a
    scalar in [0, 4].
    """
    pooled_N = 1 - F.cosine_similarity(student.pooled_ND.float(), initial.pooled_ND.float(), dim=1)
    dense_NHW = 1 - F.cosine_similarity(student.map_NDHW.float(), initial.map_NDHW.float(), dim=1)
    rows_N = pooled_N + dense_NHW.flatten(1).mean(1)
    return global_mean(rows_N.sum(), torch.tensor(float(len(rows_N)), device=rows_N.device))
