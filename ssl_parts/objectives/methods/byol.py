"""BYOL (Grill et al., arXiv 2006.07733): predict the teacher's projection of the other view; no
negatives.
"""

from typing import TYPE_CHECKING

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gathered_norm import gather_batch_norms
from ssl_parts.objectives.method import InstanceMethod
from ssl_parts.objectives.network import Outputs, split_views

if TYPE_CHECKING:
    from ssl_parts.views import Views


class BYOL(InstanceMethod):
    """lightly's heads and negative cosine similarity, both ways, in [-1, 1].

    Batch norm in the heads sees both views of all processes (the paper: one view of all
    processes).
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.distance = NegativeCosineSimilarity()

    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        hidden, out = self.config.hidden, self.config.projection
        projector, predictor = (
            BYOLProjectionHead(width, hidden, out),
            BYOLPredictionHead(out, hidden, out),
        )
        return gather_batch_norms(projector), gather_batch_norms(predictor)

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        q_one, q_two = split_views(student.instance_ND.float())
        t_one, t_two = split_views(teacher.instance_ND.float())
        loss = 0.5 * (self.distance(q_one, t_two) + self.distance(q_two, t_one))
        return {"loss": loss, "byol": loss}
