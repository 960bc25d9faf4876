"""SimCLR (Chen et al., arXiv 2002.05709): each view's image against all other views of the batch."""

from typing import TYPE_CHECKING

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gathered_norm import gather_batch_norms
from ssl_parts.objectives.method import InstanceMethod
from ssl_parts.objectives.network import Outputs, split_views

if TYPE_CHECKING:
    from ssl_parts.views import Views


class SimCLR(InstanceMethod):
    """lightly's NT-Xent loss and head (two layers with batch norm) on pooled features; no teacher.

    Negatives and batch statistics are those of all processes: equal to one process with the whole
    batch.
    """

    has_teacher = False

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.nt_xent = NTXentLoss(config.temperature, gather_distributed=True)

    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        head = SimCLRProjectionHead(width, self.config.hidden, self.config.projection)
        return gather_batch_norms(head), nn.Identity()

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        loss = self.nt_xent(*split_views(student.instance_ND.float()))
        return {"loss": loss, "simclr": loss}
