"""Training and evaluation modes of networks."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
