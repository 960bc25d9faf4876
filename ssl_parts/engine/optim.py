"""Optimiser with layer-wise learning rates: any of timm's, over groups of parameters."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

# timm documents these names here, its types list them in private modules
from timm.optim import (
    create_optimizer_v2,  # pyright: ignore[reportPrivateImportUsage]
    get_optimizer_class,  # pyright: ignore[reportPrivateImportUsage]
    list_optimizers,  # pyright: ignore[reportPrivateImportUsage]
    param_groups_layer_decay,  # pyright: ignore[reportPrivateImportUsage]
)
from torch import nn

from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


def build_optimizer(
    network: nn.Module,
    encoders: Sequence[Encoder],
    name: str,
    lr: float,
    *,
    weight_decay: float,
    layer_decay: float = 1.0,
    encoder_share: float = 1.0,
) -> torch.optim.Optimizer:
    """Build an optimiser of timm over what trains in a network: its encoders, and the rest.

    Args:
        network: encoders and heads. Parameters that take no gradient are left out.
        encoders: those modules of the network whose layers have learning rates of their own.
        name: any optimiser of timm.
        lr: peak learning rate of the heads.
        weight_decay: of matrices; norms and biases are not decayed.
        layer_decay: factor of the learning rate from each encoder layer to the one before it.
        encoder_share: learning rate of an encoder's last layer as a share of `lr`.

    Raises:
        ConfigError: timm does not know the name.
    """
    groups: list[dict[str, Any]] = []
    for encoder in encoders:
        for group in param_groups_layer_decay(
            encoder.model, weight_decay=weight_decay, layer_decay=layer_decay
        ):
            groups.append({**group, "lr_scale": encoder_share * group["lr_scale"]})
    inside = {id(p) for group in groups for p in group["params"]}
    heads = [p for p in network.parameters() if id(p) not in inside and p.requires_grad]
    flat, matrices = [p for p in heads if p.ndim <= 1], [p for p in heads if p.ndim > 1]
    groups.append({"params": matrices, "weight_decay": weight_decay, "lr_scale": 1.0})
    groups.append({"params": flat, "weight_decay": 0.0, "lr_scale": 1.0})
    return create_optimizer(groups, name, lr)


def create_optimizer(groups: list[dict[str, Any]], name: str, lr: float) -> torch.optim.Optimizer:
    """Create an optimiser of timm over groups with their own weight decay.

    torch's own (AdamW, SGD, ...) run in one fused kernel.

    Raises:
        ConfigError: timm does not know the name.
    """
    extra: dict[str, Any] = {"momentum": 0.9} if "sgd" in name.lower() else {}
    try:
        kind = get_optimizer_class(name.rpartition("_")[2], bind_defaults=False)
        if "fused" in inspect.signature(kind).parameters:
            extra["fused"] = True
        return create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, **extra)
    except (ValueError, AssertionError, KeyError) as error:
        known = ", ".join(str(known) for known in list_optimizers()[:12])
        raise ConfigError(
            f"train.optimizer={name!r} is not an optimiser of timm; some are: {known}"
        ) from error


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group: `lr` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
