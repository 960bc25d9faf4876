"""Modes of networks: evaluation for a while, and batch norms that keep their statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation mode for a while; each module gets back the mode it had.

    Gradients are left to the caller: combine with `torch.inference_mode()` where none are needed.

    Example:
        >>> network = nn.Dropout().train()
        >>> with evaluating(network):
        ...     network.training
        False
        >>> network.training
        True
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def keep_norm_statistics(network: nn.Module, frozen_only: bool = False) -> None:
    """Switch batch norms to evaluation mode, so that they use their statistics and move none.

    The next call of `network.train()` undoes it.

    Args:
        network: its batch-norm layers, at any depth, are switched.
        frozen_only: switch only layers whose weight takes no gradient.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            frozen = module.affine and not module.weight.requires_grad
            if frozen or not frozen_only:
                module.eval()
