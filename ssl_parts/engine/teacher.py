"""The teacher: an exponential moving average of the student."""

import copy

import torch
from torch import nn


def make_teacher(network: nn.Module) -> nn.Module:
    """A copy that takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, in a few fused calls; buffers are
    copied.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def interpolate(
    initial: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """(1 - share) * initial + share * trained where floating, else the trained (WiSE-FT, arXiv
    2109.01903).
    """
    mixed = {}
    for name, value in trained.items():
        floating = value.is_floating_point()
        mixed[name] = (
            torch.lerp(initial[name].to(value), value, share) if floating and share < 1 else value
        )
    return mixed
