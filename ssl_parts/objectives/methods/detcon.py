"""DetCon (Hénaff et al., arXiv 2103.10957): contrast of masks that come from outside (SLIC,
Felzenszwalb, given).

Shapes: N views, M sampled masks, D channels.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from lightly.loss import DetConBLoss
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.method import Method, uses_teacher
from ssl_parts.objectives.network import Outputs, PartNetwork, split_views
from ssl_parts.objectives.part_contrast import mean_shared_parts

if TYPE_CHECKING:
    from ssl_parts.views import Views


class DetCon(Method):
    """lightly's DetCon-B loss; with `objective.targets=student` DetCon-S, whose targets are the
    student's own vectors.

    As in the paper every mask takes part, background too, and M masks are sampled with repeats
    among those that a view has (here evenly: all once before any is taken twice). Targets are
    gathered over processes, with their gradient.
    """

    needs_parts = True

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.has_teacher = uses_teacher(config)
        self.contrast = DetConBLoss(config.temperature, gather_distributed=True)

    def network(self, encoder: Encoder, k: int = 0, background: int | None = None) -> nn.Module:
        only_parts = replace(self.config, part_weight=1.0, instance_weight=0.0, dino_weight=0.0)
        return PartNetwork(encoder, only_parts, k, background=None)

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        rows_NM = repeated_rows(student.valid_NM)
        q, t = (
            split_views(_take(outputs.part_NMD.float(), rows_NM)) for outputs in (student, teacher)
        )
        ids = split_views(student.ids_NM.gather(1, rows_NM))
        loss = self.contrast(*q, *t, *ids)
        shared = mean_shared_parts(split_views(student.ids_NM), split_views(student.valid_NM))
        return {"loss": loss, "detcon": loss, "shared_parts": shared}


def repeated_rows(valid_NM: Tensor) -> Tensor:
    """Indices of M valid rows for each view, all of them in turn: long (N,M). Valid rows come
    first in `Parts`.
    """
    present_N1 = valid_NM.sum(1, keepdim=True).clamp(min=1)
    return torch.arange(valid_NM.shape[1], device=valid_NM.device) % present_N1


def _take(vectors_NMD: Tensor, rows_NM: Tensor) -> Tensor:
    return vectors_NMD.gather(1, rows_NM.unsqueeze(-1).expand_as(vectors_NMD))
