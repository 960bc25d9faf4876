"""Training and evaluation modes of networks."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def evaluating(*networks: nn.Module | None) -> Iterator[None]:
    """Put networks into evaluation mode; afterwards every module has the mode it had before.

    Args:
        networks: None stands for no network. Gradients are left as they are: combine it with
            `torch.inference_mode()` where none are needed.
    """
    modules = [module for each in networks if each is not None for module in each.modules()]
    modes = [(module, module.training) for module in modules]
    for network in networks:
        if network is not None:
            network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def keep_norm_statistics(network: nn.Module, frozen_only: bool = False) -> None:
    """Let batch norms use their statistics and move none, until the next `network.train()`.

    Args:
        network: its batch-norm layers, at any depth, go into evaluation mode.
        frozen_only: only layers whose weight takes no gradient do.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            frozen = module.affine and not module.weight.requires_grad
            if frozen or not frozen_only:
                module.eval()
