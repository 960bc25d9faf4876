"""MoCo (He et al., arXiv 1911.05722; v2: 2003.04297): negatives from a queue of past teacher
projections.
"""

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.method import InstanceMethod, LossInputs
from ssl_parts.objectives.network import Heads, InstanceOutputs, split_views


class MoCo(InstanceMethod):
    """Lightly's NT-Xent loss with its memory bank and MoCo v2's head.

    The queue starts with random directions, as in the paper, and is the same on all processes: keys
    are gathered image by image, in the order of the global batch. Lightly leaves its bank out of
    the state; here it is in the checkpoint.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        size = (config.moco.queue, config.projection)
        self.nt_xent = NTXentLoss(
            config.temperature, memory_bank_size=size, gather_distributed=True
        )
        bank = self.nt_xent.memory_bank
        for name, buffer in list(bank.named_buffers()):
            bank.register_buffer(name, buffer, persistent=True)

    def build_heads(self, channels: int) -> Heads:
        return Heads(MoCoProjectionHead(channels, self.config.hidden, self.config.projection))

    def forward(self, inputs: LossInputs[InstanceOutputs]) -> dict[str, Tensor]:
        r"""Compute InfoNCE against the queue, section 3.1 (equation 1); then push the keys.

        .. math::
            L = -\mathrm{mean}_i \log \frac{\exp s(q_i, t_{j(i)})}
                {\exp s(q_i, t_{j(i)}) + \sum_{u \in \mathrm{queue}} \exp s(q_i, u)},
            \quad s(q, t) = \cos(q, t)/\tau

        Each view is query once and key once: :math:`q` = `instance_ND` of the student, :math:`t` of
        the teacher, :math:`j(i)` the other view of the same image.

        Returns:
            "loss" and the same as "moco".
        """
        q_one, q_two = split_views(inputs.student.instance_ND.float())
        k_one, k_two = split_views(inputs.teacher.instance_ND.float())
        loss = self.nt_xent(_interleave(q_one, q_two), _interleave(k_two, k_one))
        return {"loss": loss, "moco": loss}


def _interleave(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Order rows by image, (2B,D): gathering over processes keeps the order of the global batch."""
    return torch.stack([first_BD, second_BD], 1).flatten(0, 1)
