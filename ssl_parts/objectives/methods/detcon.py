"""DetCon (Hénaff et al., arXiv 2103.10957): contrast of masks that come from outside (SLIC,
Felzenszwalb, given).

Shapes: N = 2B views of B images, M sampled masks, D channels.
"""

import torch
from lightly.loss import DetConBLoss
from torch import Tensor

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig, Targets
from ssl_parts.objectives.method import LossInputs, Method
from ssl_parts.objectives.network import (
    Network,
    PartNetwork,
    PartOutputs,
    split_parts,
    split_views,
)
from ssl_parts.objectives.part_contrast import average_shared_parts


class DetCon(Method[PartOutputs]):
    """Lightly's DetCon-B loss; with `objective.targets=student` DetCon-S, whose targets are the
    student's own vectors.

    As in the paper every mask takes part, background too, and M masks are sampled with repeats
    among those that a view has (here evenly: all once before any is taken twice). Targets are
    gathered over processes, with their gradient.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.has_teacher = config.targets is Targets.teacher
        self.contrast = DetConBLoss(config.temperature, gather_distributed=True)

    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[PartOutputs]:
        return PartNetwork(
            encoder,
            k,
            samples=self.config.samples,
            hidden=self.config.hidden,
            projection=self.config.projection,
            predictor=self.has_teacher,
        )

    def forward(self, inputs: LossInputs[PartOutputs]) -> dict[str, Tensor]:
        """Compute the DetCon-B loss of section 3: that of `PartContrast`, all masks valid.

        Returns:
            "loss", the same as "detcon", and "shared_parts", a count: masks per image that both
            views have.
        """
        parts = inputs.student.parts
        rows_NM = repeat_valid_rows(parts.valid_BM)
        q, t = (
            split_views(_take_rows(outputs.parts.vectors_BMD.float(), rows_NM))
            for outputs in (inputs.student, inputs.teacher)
        )
        loss = self.contrast(*q, *t, *split_views(parts.ids_BM.gather(1, rows_NM)))
        _, ids, valid = split_parts(parts)
        return {"loss": loss, "detcon": loss, "shared_parts": average_shared_parts(ids, valid)}


def repeat_valid_rows(valid_NM: Tensor) -> Tensor:
    """Choose M valid rows of each view, all of them in turn: indices, long (N,M).

    Valid rows come first in `Parts`.
    """
    present_N1 = valid_NM.sum(1, keepdim=True).clamp(min=1)
    return torch.arange(valid_NM.shape[1], device=valid_NM.device) % present_N1


def _take_rows(vectors_NMD: Tensor, rows_NM: Tensor) -> Tensor:
    return vectors_NMD.gather(1, rows_NM.unsqueeze(-1).expand_as(vectors_NMD))
