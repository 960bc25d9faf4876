"""Batch norm of heads over all processes, so that B images on two processes are 2B on one.

torch's SyncBatchNorm does the same for feature maps, on GPUs only; a head's rows are few and
small, so they are gathered as they are, on any device.
"""

from typing import TypeVar

from torch import Tensor, nn

from ssl_parts.objectives.gather import gather_targets, rank, world_size

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class GatheredBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d over the rows of all processes, which must have equally many.

    Gradients flow back to each process.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise rows (N,D) with mean and variance over the rows of all processes."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        return super().forward(gather_targets(input)).chunk(world_size())[rank()]


def gather_batch_norms(head: ModuleT) -> ModuleT:
    """Replace every BatchNorm1d in a head, in place, by one over all processes; return the head.

    The replacements are new: nothing that the old ones have learnt is kept.
    """
    for name, module in head.named_children():
        if isinstance(module, nn.BatchNorm1d):
            setattr(head, name, GatheredBatchNorm1d(module.num_features, affine=module.affine))
        else:
            gather_batch_norms(module)
    return head
