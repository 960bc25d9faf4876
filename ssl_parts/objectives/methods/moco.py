"""MoCo (He et al., arXiv 1911.05722; v2: 2003.04297): negatives from a queue of past teacher
projections.
"""

from typing import TYPE_CHECKING

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor, nn

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.method import InstanceMethod
from ssl_parts.objectives.network import Outputs, split_views

if TYPE_CHECKING:
    from ssl_parts.views import Views


class MoCo(InstanceMethod):
    """lightly's NT-Xent loss with its memory bank and MoCo v2's head; each view is query and key
    once.

    The queue starts with random directions, as in the paper, and is the same on all ranks: keys
    are gathered image by image, in the order of the global batch. lightly leaves its bank out of
    the state; here it is in the checkpoint.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        size = (config.moco_queue, config.projection)
        self.nt_xent = NTXentLoss(
            config.temperature, memory_bank_size=size, gather_distributed=True
        )
        bank = self.nt_xent.memory_bank
        for name, buffer in list(bank.named_buffers()):
            bank.register_buffer(name, buffer, persistent=True)

    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        return MoCoProjectionHead(width, self.config.hidden, self.config.projection), nn.Identity()

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        q_one, q_two = split_views(student.instance_ND.float())
        k_one, k_two = split_views(teacher.instance_ND.float())
        loss = self.nt_xent(_by_image(q_one, q_two), _by_image(k_two, k_one))
        return {"loss": loss, "moco": loss}


def _by_image(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Both rows of image 0, both of image 1, ...: gathering over ranks then keeps the order of the
    global batch.
    """
    return torch.stack([first_BD, second_BD], 1).flatten(0, 1)
