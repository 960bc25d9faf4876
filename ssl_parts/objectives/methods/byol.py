"""BYOL (Grill et al., arXiv 2006.07733): predict the teacher's projection of the other view; no
negatives.
"""

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gathered_norm import gather_batch_norms
from ssl_parts.objectives.method import InstanceMethod, LossInputs
from ssl_parts.objectives.network import Heads, InstanceOutputs, split_views


class BYOL(InstanceMethod):
    """Lightly's heads and negative cosine similarity, both ways.

    Batch norm in the heads sees both views of all processes (the paper: one view of all
    processes).
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.distance = NegativeCosineSimilarity()

    def build_heads(self, channels: int) -> Heads:
        hidden, out = self.config.hidden, self.config.projection
        projector, predictor = (
            BYOLProjectionHead(channels, hidden, out),
            BYOLPredictionHead(out, hidden, out),
        )
        return Heads(gather_batch_norms(projector), gather_batch_norms(predictor))

    def forward(self, inputs: LossInputs[InstanceOutputs]) -> dict[str, Tensor]:
        r"""Compute the loss of section 3.1 (equation 2, without its constant), in [-1, 1].

        .. math::
            L = -\tfrac12 \, \mathrm{mean}_b \, [\cos(q_{b,1}, t_{b,2}) + \cos(q_{b,2}, t_{b,1})]

        with predictions :math:`q` of the student and projections :math:`t` of the teacher, both
        `instance_ND`.

        Returns:
            "loss" and the same as "byol".
        """
        q_one, q_two = split_views(inputs.student.instance_ND.float())
        t_one, t_two = split_views(inputs.teacher.instance_ND.float())
        loss = 0.5 * (self.distance(q_one, t_two) + self.distance(q_two, t_one))
        return {"loss": loss, "byol": loss}
