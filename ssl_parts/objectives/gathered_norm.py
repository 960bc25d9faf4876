"""Batch norm of heads over all processes, so that B images on two processes are 2B on one.

torch's SyncBatchNorm does the same for feature maps, on GPUs only; a head's rows are few and
small, so they are gathered as they are, on any device.
"""

from torch import Tensor, nn

from ssl_parts.objectives.gather import gather_targets, rank, world_size


class GatheredBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d over the rows of all ranks; gradients flow back to each. Ranks must have equally
    many rows.
    """

    def forward(self, rows_ND: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(rows_ND)
        return super().forward(gather_targets(rows_ND)).chunk(world_size())[rank()]


def gather_batch_norms(head: nn.Module) -> nn.Module:
    """The head with every BatchNorm1d in it replaced by one over all ranks (new ones: nothing
    learned is kept).
    """
    for name, module in head.named_children():
        if isinstance(module, nn.BatchNorm1d):
            setattr(head, name, GatheredBatchNorm1d(module.num_features, affine=module.affine))
        else:
            gather_batch_norms(module)
    return head
