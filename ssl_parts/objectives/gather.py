"""Batches across processes: every process sees all targets, and denominators are those of the
global batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _AllGather(torch.autograd.Function):
    """Concatenation over ranks; its gradient is summed over ranks, and each takes the rows that it
    gave.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, local_B: Tensor) -> Tensor:
        pieces = [torch.empty_like(local_B) for _ in range(world_size())]
        dist.all_gather(pieces, local_B.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient_G: Tensor) -> Tensor:
        gradient_G = gradient_G.contiguous().clone()
        dist.all_reduce(gradient_G)
        return gradient_G.chunk(world_size())[rank()]


def gather_targets(local_B: Tensor) -> Tensor:
    """Concatenate equally shaped tensors of all ranks along the first axis; where they take
    gradient, it flows back.
    """
    return local_B if world_size() == 1 else _AllGather.apply(local_B)


def global_sum(value: Tensor) -> Tensor:
    """Sum of a tensor without gradient over all ranks."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def global_mean(sum_local: Tensor, count_local: Tensor) -> Tensor:
    """The mean over all ranks, scaled so that DistributedDataParallel's average over ranks gives
    its exact gradient.

    Each rank returns world_size * (its own sum) / (everybody's count): the average over ranks is
    the global mean. A rank (or a whole batch) with nothing to count returns a zero that still
    carries a graph, so no rank hangs.
    """
    return sum_local * world_size() / global_sum(count_local).clamp(min=1)
