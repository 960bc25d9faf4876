"""The teacher: an exponential moving average of the student."""

import copy
from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def make_teacher(network: N) -> N:
    """Copy a network; the copy takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher: momentum * teacher + (1 - momentum) * student, in a few fused calls.

    Buffers are copied from the student.
    """
    # torch's types do not list this call for all tensors at once
    lerp = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
    lerp(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def interpolate(
    initial: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Mix two state dicts: (1 - share) * initial + share * trained.

    Source: WiSE-FT, arXiv 2109.01903, section 3.

    Args:
        share: in [0, 1].

    Returns:
        a state dict on the device of `trained`; what is not floating point is the trained value.
    """
    mixed = {}
    for name, value in trained.items():
        floating = value.is_floating_point()
        mixed[name] = (
            torch.lerp(initial[name].to(value), value, share) if floating and share < 1 else value
        )
    return mixed
