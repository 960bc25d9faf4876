"""timm's constructors: which of their arguments may be given, and networks without storage.

Arguments may come from the config of somebody else's run or export. Only names of the network's
own constructor with plain values pass: none that make timm read a file, load weights or build
classes.
"""

import difflib
import functools
import inspect
import json
import math
from typing import Any

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, is_model, split_model_name_tag
from torch import nn

from ssl_parts.encoders.families import has_maps, layout_of
from ssl_parts.errors import ConfigError, WeightsError

# Decided by the encoder itself, or no plain value.
CLOSED = {
    *(
        "self",
        "kwargs",
        "num_classes",
        "in_chans",
        "device",
        "dtype",
        "cfg",
        "block",
        "block_fn",
        "block_args",
    ),
    *(
        "embed_layer",
        "mlp_layer",
        "attn_layer",
        "conv_layer",
        "se_layer",
        "round_chs_fn",
        "embed_norm_layer",
    ),
}
# which timm's EfficientNets take beside their constructor's
OF_BATCH_NORM = ("bn_eps", "bn_momentum", "bn_tf")
# no constructor has them; belt and braces
LOADING = ("pretrained", "checkpoint", "cache", "weights", "file", "url")
COUNTS = ("layers", "depth", "depths")
# blocks in all; any number; items of a list and letters of a word
DEEPEST, LARGEST, LONGEST = 200, 10**6, 64


def check_name(name: str | None) -> None:
    """ConfigError with the nearest names unless timm knows this one, with its tag of weights."""
    if not isinstance(name, str) or not name:
        raise ConfigError(
            "encoder.name is missing: name a network (encoder=resnet50, or encoder.name= with a name of timm's), or "
            "give encoder.weights=RUN or EXPORT, which know theirs"
        )
    base, tag = split_model_name_tag(name)
    if not is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists the names"
        )
        raise ConfigError(f"encoder.name={name!r} is not a timm model; {hint}")
    tags = [known.partition(".")[2] for known in get_arch_pretrained_cfgs(base)]
    if tag and tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.3) or tags[:1]
        hint = f"did you mean {base}.{near[0]}?" if near else f"leave the tag away: {base}"
        raise ConfigError(
            f"encoder.name={name!r}: timm has no weights of that tag for {base}; {hint}"
        )


def check_arguments(name: str, args: dict[str, Any]) -> None:
    """ConfigError for the first argument that the network's constructor does not have, or that is
    no plain value.
    """
    if not args:
        return
    known = constructor_keys(create_skeleton(name, {}))
    for key, value in args.items():
        if key == "output_stride" and key not in known:
            raise ConfigError(
                f"encoder.output_stride={value} is for networks whose strides can be dilated (ResNet, ConvNeXt, "
                f"MobileNet); {name}'s cannot"
            )
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(
                f"encoder.timm_kwargs.{key} is no argument of {name}'s constructor; {hint}"
            )
        if not _is_plain(value) or (key in COUNTS and _sum(value) > DEEPEST):
            raise ConfigError(
                f"encoder.timm_kwargs.{key}={str(value)[:80]!r}: a number, a word, true, false or a short list of "
                "them is needed"
            )


def constructor_keys(model: nn.Module) -> list[str]:
    """Names of the plain arguments that a timm network's class and its parents take."""
    names: dict[str, None] = {}
    for kind in type(model).__mro__:
        if kind.__module__.startswith("timm."):
            names |= dict.fromkeys(inspect.signature(kind.__init__).parameters)
    if (
        any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        and "pad_type" in names
    ):
        names |= dict.fromkeys(OF_BATCH_NORM)
    return sorted(n for n in names if n not in CLOSED and not n.startswith(LOADING))


def create_skeleton(name: str, args: dict[str, Any]) -> nn.Module:
    """The network without storage, to read its shape from; equal calls share one, so leave it as
    it is.

    Raises:
        ConfigError: arguments that do not go together.
    """
    return _skeleton(name, json.dumps(args, sort_keys=True))


@functools.lru_cache(maxsize=16)
def _skeleton(name: str, args: str) -> nn.Module:
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, num_classes=0, **json.loads(args))
        if has_maps(model):
            layout_of(model)
        return model
    except Exception as error:  # constructors fail in any way on sizes that do not fit
        shown = (
            ", ".join(f"{key}={value}" for key, value in json.loads(args).items()) or "no arguments"
        )
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"timm cannot build {name} with {shown}: {said}") from error


def create_network(name: str, args: dict[str, Any], pretrained: bool = False) -> nn.Module:
    """The network, with timm's own weights or random ones; `create_skeleton` must have passed.

    Raises:
        WeightsError: timm's weights could not be had, for want of a network or of weights of that
            name.
    """
    if not pretrained:
        return timm.create_model(name, pretrained=False, num_classes=0, **args)
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **args)
    except Exception as error:  # timm, the hub and their transport have classes of their own
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsError(
            f"timm's own weights for {name} could not be had: {said}; download them elsewhere and give "
            "encoder.weights=PATH"
        ) from error


def count_numbers(model: nn.Module) -> int:
    """Parameters and buffers of a network."""
    return sum(tensor.numel() for tensor in model.state_dict().values())


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return (
            depth < 2
            and len(value) <= LONGEST
            and all(_is_plain(item, depth + 1) for item in value)
        )
    if isinstance(value, str):
        return len(value) <= LONGEST
    if isinstance(value, (int, float)):
        return math.isfinite(value) and abs(value) <= LARGEST
    return value is None


def _sum(value: Any) -> float:
    if isinstance(value, (list, tuple)):
        return sum(_sum(item) for item in value)
    return abs(value) if isinstance(value, (int, float)) else 0
