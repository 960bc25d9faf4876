"""Batches across processes: every process sees all targets, and denominators are those of the
global batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Processes of the run; 1 where none were launched."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllGather(torch.autograd.Function):
    """Concatenation over processes.

    Its gradient is summed over processes, and each takes the rows that it gave.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, local_B: Tensor) -> Tensor:
        pieces = [torch.empty_like(local_B) for _ in range(world_size())]
        dist.all_gather(pieces, local_B.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        gradient_G = grad_outputs[0].contiguous().clone()
        dist.all_reduce(gradient_G)
        return gradient_G.chunk(world_size())[rank()]


def gather_targets(local_B: Tensor) -> Tensor:
    """Concatenate equally shaped tensors of all processes along the first axis.

    Where they take gradient, it flows back to the process that they came from.
    """
    return local_B if world_size() == 1 else _AllGather.apply(local_B)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor over all processes; without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def average_over_processes(sum_local: Tensor, count_local: Tensor) -> Tensor:
    """Average over all rows of all processes, as DistributedDataParallel needs it.

    Each process returns world size x (its own sum) / (everybody's count). The average of these over
    processes is the global mean, and DistributedDataParallel, which averages gradients, gives its
    exact gradient. A process (or a whole batch) with nothing to count returns a zero that still
    carries a graph, so that no process hangs.
    """
    return sum_local * world_size() / sum_over_processes(count_local).clamp(min=1)
