"""Supervised fine-grained heads on any encoder: `build_head("tdsa", encoder, classes)`, one
interface for all.
"""

import difflib
from dataclasses import fields
from typing import Any

from evaluation.heads.coarse2fine import Coarse2Fine, Coarse2FineConfig
from evaluation.heads.head import Head, Looks
from evaluation.heads.linear import Linear, LinearConfig
from evaluation.heads.scrim import SCRIM, SCRIMConfig
from evaluation.heads.tdsa import TDSA, TDSAConfig
from evaluation.heads.upm import UPM, UPMConfig
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError

HEADS: dict[str, type[Head]] = {
    "linear": Linear,
    "tdsa": TDSA,
    "coarse2fine": Coarse2Fine,
    "scrim": SCRIM,
    "upm": UPM,
}

HeadConfig = LinearConfig | TDSAConfig | Coarse2FineConfig | SCRIMConfig | UPMConfig


def build_head(
    name: str,
    encoder: Encoder,
    classes: int,
    config: HeadConfig | None = None,
    *,
    frozen: bool = False,
    **options: Any,
) -> Head:
    """A head by name on an encoder of any family.

    Args:
        name: a key of `HEADS`.
        encoder: becomes part of the head (fine-tuned), or keeps its weights and statistics
            (`frozen`).
        classes: number of classes.
        config: of that head's config class; or its fields as options, `build_head("tdsa", encoder,
            200, gating=False)`.

    Raises:
        ConfigError: an unknown name or option, options beside a config, values that do not fit the
            encoder.
    """
    if config is None:
        config = head_config(name, **options)
    elif options or name not in HEADS or not isinstance(config, HEADS[name].config_class):
        raise ConfigError(
            f"head {name!r} takes its own config or options, not {config!r} and {options}"
        )
    config.check()
    return HEADS[name](encoder, classes, config, frozen)


def head_config(name: str, **options: Any) -> HeadConfig:
    """The config of a head; ConfigError for an unknown name, or the first option that this head
    does not have.
    """
    if name not in HEADS:
        raise ConfigError(
            f"head.name={name!r} is unknown{_near(name, HEADS)}; there are: {', '.join(HEADS)}"
        )
    kind = HEADS[name].config_class
    known = [each.name for each in fields(kind)]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"head {name} has no option {option!r}{_near(option, known)}; it has: {', '.join(known)}"
            )
    return kind(**options)


def _near(word: str, known: list[str] | dict) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


__all__ = [
    "HEADS",
    "SCRIM",
    "TDSA",
    "UPM",
    "Coarse2Fine",
    "Head",
    "HeadConfig",
    "Linear",
    "Looks",
    "build_head",
    "head_config",
]
