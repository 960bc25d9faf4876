"""Heads by name: `build_head("tdsa", encoder, classes)`, one interface for all."""

from typing import Any

from evaluation.heads.coarse2fine import Coarse2Fine
from evaluation.heads.config import HeadConfig, head_config
from evaluation.heads.head import Head
from evaluation.heads.linear import Linear
from evaluation.heads.scrim import SCRIM
from evaluation.heads.tdsa import TDSA
from evaluation.heads.upm import UPM
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError

HEADS: dict[str, type[Head]] = {
    "linear": Linear,
    "tdsa": TDSA,
    "coarse2fine": Coarse2Fine,
    "scrim": SCRIM,
    "upm": UPM,
}


def build_head(
    name: str,
    encoder: Encoder,
    classes: int,
    config: HeadConfig | None = None,
    *,
    frozen: bool = False,
    **options: Any,
) -> Head:
    """Put a head by name on an encoder of any family.

    Args:
        name: a key of `HEADS`.
        encoder: becomes part of the head (fine-tuned), or keeps its weights and statistics
            (`frozen`).
        classes: number of classes.
        config: of that head's config class; or its fields as options.

    Raises:
        ConfigError: an unknown name or option, options beside a config, values that do not fit the
            encoder.

    Example:
        >>> import torch
        >>> from ssl_parts.encoders import build_encoder
        >>> encoder = build_encoder("resnet18", small=True, width=0.125)
        >>> head = build_head("tdsa", encoder, classes=5, gating=False)
        >>> terms = head.loss(torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]))
        >>> terms["loss"].shape, head.eval()(torch.rand(2, 3, 64, 64)).shape
        (torch.Size([]), torch.Size([2, 5]))
    """
    if config is None:
        config = head_config(name, **options)
    elif options or name not in HEADS or not isinstance(config, HEADS[name].config_class):
        raise ConfigError(
            f"head {name!r} takes its own config or options, not {config!r} and {options}"
        )
    config.check()
    return HEADS[name](encoder, classes, config, frozen)
