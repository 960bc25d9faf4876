"""Training a part of an encoder: stages that stay as they are, and low-rank adapters in place of
whole weights.

Both leave the network's function at the start untouched, and both are gone from what a phase
leaves on disk: the result has the plain names and shapes of the encoder that came in.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ssl_parts.encoders import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.errors import ConfigError


def adapt(encoder: Encoder, freeze_stages: int, lora_rank: int, lora_scale: float) -> None:
    """Freeze the first stages and put adapters on the weights behind them, in place.

    Args:
        freeze_stages: 0 freezes none; negative: as many are left to train.
        lora_rank: 0 adds no adapters. lora_scale: see `LowRank`.

    Raises:
        ConfigError: as `freeze` and `add_adapters`.
    """
    if freeze_stages != 0:
        freeze(encoder, freeze_stages)
    if lora_rank > 0:
        add_adapters(encoder, lora_rank, lora_scale)


def freeze(encoder: Encoder, stages: int) -> list[str]:
    """Let parameters that the first `stages` maps depend on take no gradient; return their names.

    Which ones these are is asked of autograd, so it holds for every family of networks: what has a
    gradient when the map is differentiated lies at or before it.

    Args:
        stages: negative: all but the last so many.

    Raises:
        ConfigError: the encoder has not that many stages before its last.
    """
    last = len(encoder.stages) - 1
    if not 0 < abs(stages) <= last:
        raise ConfigError(
            f"train.freeze_stages={stages}, but {encoder.name} has the stages "
            f"{', '.join(encoder.stages)}; freeze 0 to {last} of them, or -1 to -{last}: all but "
            "the last so many"
        )
    stages %= len(encoder.stages)
    names, parameters = zip(*[(n, p) for n, p in encoder.named_parameters() if p.requires_grad])
    image = blank_image(encoder).to(parameters[0].device)
    with torch.enable_grad(), evaluating(encoder):
        map_BDhw = encoder(image, [encoder.stages[stages - 1]]).maps.popitem()[1]
        gradients = torch.autograd.grad(map_BDhw.sum(), parameters, allow_unused=True)
    frozen = [name for name, gradient in zip(names, gradients) if gradient is not None]
    for name in frozen:
        encoder.get_parameter(name).requires_grad_(False)
    return frozen


def blank_image(encoder: Encoder) -> Tensor:
    """Make one image (1, 3, H, W) of a size that the network takes: a ViT's own, else 64 px."""
    embed = getattr(encoder.model, "patch_embed", None)
    height, width = getattr(embed, "img_size", None) or (64, 64)
    return torch.zeros(1, 3, height, width)


class LowRank(nn.Module):
    """weight + scale * (up @ down), reshaped; a convolution is a matrix of out x in*k*k.

    `down` starts as in the reference implementation and `up` at zero, so nothing changes before
    the first step. Source: LoRA, arXiv 2106.09685, section 4.1.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        """`scale`: alpha / rank of the paper."""
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.scale = scale
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight, of the same shape."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_adapters(encoder: Encoder, rank: int, scale: float) -> list[str]:
    """Freeze the encoder and give an adapter to each convolution and linear layer that took
    gradient.

    Weights with fewer than 2 * rank rows or columns (depthwise convolutions, the first one) get
    none and stay as they are, like norms and biases.

    Returns:
        the names of the adapted layers.

    Raises:
        ConfigError: no weight that an adapter of this rank would make smaller.
    """
    chosen = {name: m for name, m in encoder.named_modules() if takes_adapter(m, rank)}
    if not chosen:
        raise ConfigError(
            f"train.lora_rank={rank}: no weight of {encoder.name} that is not frozen has "
            f"{2 * rank} rows and columns; lower the rank or train.freeze_stages"
        )
    encoder.requires_grad_(False)
    for module in chosen.values():
        weight: Any = module.weight
        parametrize.register_parametrization(module, "weight", LowRank(weight, rank, scale))
    return list(chosen)


def takes_adapter(module: nn.Module, rank: int) -> bool:
    """Whether a module is a layer that takes gradient and whose adapter would be smaller."""
    if not isinstance(module, nn.Conv2d | nn.Linear) or not module.weight.requires_grad:
        return False
    return min(module.weight.flatten(1).shape) >= 2 * rank


def merge_adapters(encoder: Encoder) -> None:
    """Put what the adapters learnt into the weights and remove them; without adapters nothing
    happens.

    By hand: `parametrize.remove_parametrizations` also takes the weight away from copies, as the
    teacher is one.
    """
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            weight: Any = module.weight
            merged = nn.Parameter(weight.detach().clone())
            del module.parametrizations
            module.__class__ = module.__class__.__bases__[0]
            module.weight = merged
