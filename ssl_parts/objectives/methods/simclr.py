"""SimCLR (Chen et al., arXiv 2002.05709): each view against all other views of the batch."""

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.gathered_norm import gather_batch_norms
from ssl_parts.objectives.method import InstanceMethod, LossInputs
from ssl_parts.objectives.network import Heads, InstanceOutputs, split_views


class SimCLR(InstanceMethod):
    """Lightly's NT-Xent loss and head (two layers with batch norm) on pooled features; no teacher.

    Negatives and batch statistics are those of all processes: equal to one process with the whole
    batch.
    """

    has_teacher = False

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.nt_xent = NTXentLoss(config.temperature, gather_distributed=True)

    def build_heads(self, channels: int) -> Heads:
        head = SimCLRProjectionHead(channels, self.config.hidden, self.config.projection)
        return Heads(gather_batch_norms(head))

    def forward(self, inputs: LossInputs[InstanceOutputs]) -> dict[str, Tensor]:
        r"""Compute NT-Xent, section 2.1 (equation 1), over the 2G views of the global batch.

        .. math::
            L = -\mathrm{mean}_i \log \frac{\exp(\cos(z_i, z_{j(i)})/\tau)}
                                           {\sum_{k \ne i} \exp(\cos(z_i, z_k)/\tau)}

        with :math:`z` = `instance_ND` and :math:`j(i)` the other view of the same image.

        Returns:
            "loss" and the same as "simclr".
        """
        loss = self.nt_xent(*split_views(inputs.student.instance_ND.float()))
        return {"loss": loss, "simclr": loss}
