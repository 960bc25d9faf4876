"""Optimiser with layer-wise learning rates, and which modules stay as they are."""

import inspect

import timm.optim
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from ssl_parts.errors import ConfigError
from ssl_parts.pretraining.train_config import TrainConfig


def build_optimizer(network: nn.Module, config: TrainConfig, lr: float) -> torch.optim.Optimizer:
    """Any optimiser of timm. Norms and biases are not decayed; `layer_decay` < 1 slows the layers
    towards the input.

    Raises:
        ConfigError: timm does not know the name.
    """
    encoder = timm.optim.param_groups_layer_decay(
        network.encoder.model, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    inside = {id(p) for group in encoder for p in group["params"]}
    heads = [p for p in network.parameters() if id(p) not in inside and p.requires_grad]
    flat, matrices = [p for p in heads if p.ndim <= 1], [p for p in heads if p.ndim > 1]
    groups = [
        *encoder,
        {"params": matrices, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"params": flat, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return create_optimizer(groups, config.optimizer, lr)


def create_optimizer(groups: list[dict], name: str, lr: float) -> torch.optim.Optimizer:
    """Any optimiser of timm over groups with their own weight decay; torch's own (AdamW, SGD, ...)
    in one fused kernel.

    Raises:
        ConfigError: timm does not know the name.
    """
    extra = {"momentum": 0.9} if "sgd" in name.lower() else {}
    try:
        kind = timm.optim.get_optimizer_class(name.rpartition("_")[2], bind_defaults=False)
        if "fused" in inspect.signature(kind.__init__).parameters:
            extra["fused"] = True
        return timm.optim.create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, **extra)
    except (ValueError, AssertionError, KeyError) as error:
        known = ", ".join(timm.optim.list_optimizers()[:12])
        raise ConfigError(
            f"train.optimizer={name!r} is not an optimiser of timm; some are: {known}"
        ) from error


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def set_train_mode(network: nn.Module, freeze_norm: bool) -> None:
    """Training mode; batch-norm layers of the encoder keep the statistics they came with where
    `freeze_norm` says so, or where they are frozen themselves."""
    network.train()
    for module in getattr(network, "module", network).encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            frozen = module.affine and not module.weight.requires_grad
            if freeze_norm or frozen:
                module.eval()


def follow_mode(teacher: nn.Module, student: nn.Module) -> None:
    """Each module of the teacher gets the mode of the student's."""
    for mine, theirs in zip(teacher.modules(), student.modules(), strict=True):
        mine.training = theirs.training


def speed_up(networks: list[nn.Module | None], config: TrainConfig, processes: int) -> None:
    """What the configuration asks for to make encoders faster or smaller, in place; names of
    weights stay the same.
    """
    for network in networks:
        if network is None:
            continue
        if config.grad_checkpointing:
            network.set_grad_checkpointing()
        if config.sync_batchnorm and processes > 1:
            convert_sync_batchnorm(network)
        if config.compile:
            network.compile()
