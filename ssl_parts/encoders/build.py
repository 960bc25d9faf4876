"""Build an encoder from a timm name, and the configuration that names one.

Whatever is asked for (width, small images, an early last stage) is expressed in arguments of
timm's own constructors, so that an export opens with `timm.create_model("local-dir:DIR",
pretrained=True)` where this project is not installed.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import is_model, split_model_name_tag
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import nn

from ssl_parts.encoders.config import PRETRAINED, EncoderConfig, check_normalisation
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.families import RESNET_LAYERS, freeze_heads, is_vit, resnet_layers
from ssl_parts.encoders.sources import locate
from ssl_parts.encoders.weights import load_weights
from ssl_parts.errors import ConfigError, WeightsError


def make_encoder(config: EncoderConfig) -> Encoder:
    """The configured encoder, with its weights.

    Raises:
        ConfigError, WeightsError: as `build_encoder`.
    """
    config.check()
    return build_encoder(
        config.name,
        config.weights,
        mean=config.mean,
        std=config.std,
        output_stride=config.output_stride,
        small=config.small,
        width=config.width,
        last_stage=config.last_stage,
        allow_partial=config.allow_partial,
        **{str(key): _plain(value) for key, value in config.timm_kwargs.items()},
    )


def build_encoder(
    name: str,
    weights: str | Path | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output_stride: int | None = None,
    small: bool = False,
    width: float = 1.0,
    last_stage: str | None = None,
    allow_partial: bool = False,
    **timm_kwargs: Any,
) -> Encoder:
    """A timm network behind the dense interface of `Encoder`.

    Args:
        name: a timm model name ("resnet50", "vit_small_patch8_224", "vit_small_patch14_dinov2",
            ...).
        weights: None for random weights (draw them under `torch.manual_seed`), "pretrained" for
            timm's own, or a path.
        mean, std: input statistics for RGB in [0, 1]. Default: those stored with the weights, else
            timm's for the name.
        output_stride: 8, 16 or 32; dilated convolutions instead of strides.
        small: ResNets for 48 to 96 px: a stem of three 3x3 convolutions and output_stride 8 unless
            given.
        width: ResNets: factor on the channels of every stage (and of the stem where `small`).
        last_stage: ResNets and ViTs: leave out everything behind this stage.
        allow_partial: accept weights that cover only a part of the encoder; what is missing stays
            random.
        timm_kwargs: further arguments of timm's constructor.

    Raises:
        ConfigError: an unknown name or an option that this network does not have.
        WeightsError: weights that cannot be read, belong to another architecture or cover only a
            part.
    """
    check_name(name)
    check_normalisation(mean, std)
    args = {key: value for key, value in timm_kwargs.items() if value is not None}
    if output_stride is not None:
        args["output_stride"] = output_stride
    args = _architecture_args(name, args, small=small, width=width, last_stage=last_stage)
    model = _create(name, args, pretrained=weights == PRETRAINED)
    freeze_heads(model)
    config = model.pretrained_cfg
    encoder = Encoder(name, model, mean or config["mean"], std or config["std"], args)
    if weights is not None and weights != PRETRAINED:
        encoder.report = load_weights(
            encoder,
            Path(weights),
            allow_partial=allow_partial,
            truncated=last_stage is not None,
            keep_mean=mean is not None,
        )
    return encoder


def open_encoder(source: str | Path, which: str = "best") -> Encoder:
    """The encoder kept in a run directory, a round, a checkpoint or an export: its architecture
    and its weights.

    Args:
        source: a folder, or a file inside a run.
        which: "best", "student" or "teacher"; see `locate`.

    Raises:
        WeightsError: nothing there, weights that do not fit, or a bare file that does not say its
            architecture.
    """
    found = locate(Path(source), which)
    if found.architecture is not None:
        return build_encoder(
            found.architecture, found.weights, mean=found.mean, std=found.std, **found.model_args
        )
    if found.settings is None:
        raise WeightsError(
            f"{source} does not say which network it belongs to; use build_encoder(NAME, {str(source)!r}), "
            "or give a run directory or an export"
        )
    settings = EncoderConfig(**{**found.settings, "weights": None})
    encoder = make_encoder(settings)
    encoder.report = load_weights(encoder, found.weights, truncated=settings.last_stage is not None)
    return encoder


def check_name(name: str) -> None:
    """ConfigError with the nearest names unless timm knows this one."""
    base, _ = split_model_name_tag(name)
    if is_model(base):
        return
    near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists the names"
    raise ConfigError(f"encoder.name={name!r} is not a timm model; {hint}")


# ---------------------------------------------------------------- arguments of timm's constructors


def _architecture_args(
    name: str, args: dict, *, small: bool, width: float, last_stage: str | None
) -> dict:
    skeleton = _skeleton(name, args)
    if isinstance(skeleton, ResNet):
        return _resnet_args(name, skeleton, args, small=small, width=width, last_stage=last_stage)
    for option, given in (("small", small), ("width", width != 1.0)):
        if given:
            raise ConfigError(
                f"encoder.{option} is for ResNets of timm's class ResNet; {name} is not one"
            )
    if is_vit(skeleton):
        return _vit_args(name, skeleton, args, last_stage)
    if last_stage is not None:
        raise ConfigError(
            f"encoder.last_stage={last_stage} is for ResNets and ViTs; timm cannot cut {name} short"
        )
    if isinstance(skeleton, VGG):
        # timm keeps VGG's 400 MB classifier even with no classes: make it tiny
        args.setdefault("mlp_ratio", 1 / 4096)
    return args


def _resnet_args(
    name: str, skeleton: ResNet, args: dict, *, small: bool, width: float, last_stage: str | None
) -> dict:
    layers = [len(getattr(skeleton, layer)) for layer in RESNET_LAYERS]
    expansion = type(skeleton.layer1[0]).expansion
    channels = [round(info["num_chs"] // expansion * width) for info in skeleton.feature_info[1:]]
    if last_stage is not None:
        kept = RESNET_LAYERS.index(last_stage) + 1 if last_stage in resnet_layers(skeleton) else 0
        if not kept:
            raise ConfigError(
                f"encoder.last_stage={last_stage!r} is not one of {name}'s: {', '.join(RESNET_LAYERS)}"
            )
        # timm insists on four stages: empty ones of unchanged width are identities without
        # parameters.
        layers[kept:] = [0] * (4 - kept)
        channels[kept:] = [channels[kept - 1]] * (4 - kept)
    if last_stage is not None or width != 1.0:
        args |= {"layers": layers, "channels": channels}
    if small:
        # timm cannot leave the max-pool out, so the small variant spends its detail in a deep stem
        # and does not stride again behind layer2: 16 x 16 and 8 x 8 maps at 64 px.
        args = {
            "stem_type": "deep",
            "stem_width": max(8, round(32 * width)),
            "output_stride": 8,
        } | args
    return args


def _vit_args(name: str, skeleton: nn.Module, args: dict, last_stage: str | None) -> dict:
    args = {"dynamic_img_size": True} | args
    if skeleton.cls_token is not None and not isinstance(skeleton.norm, nn.Identity):
        # so that timm's own forward returns our pooled vector
        args = {"global_pool": "token"} | args
    if last_stage is None:
        return args
    names = [f"block{i}" for i in range(len(skeleton.blocks))]
    if last_stage not in names:
        raise ConfigError(
            f"encoder.last_stage={last_stage!r} is not one of {name}'s: {names[0]} to {names[-1]}"
        )
    return args | {"depth": names.index(last_stage) + 1}


def _skeleton(name: str, args: dict) -> nn.Module:
    """The network without storage, to read its shape from."""
    with torch.device("meta"):
        return _create(name, args)


def _create(name: str, args: dict, pretrained: bool = False) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **args)
    except (TypeError, AssertionError, KeyError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in args.items()) or "no arguments"
        raise ConfigError(
            f"timm cannot build {name} with {shown}: {error or type(error).__name__}"
        ) from error
    except (RuntimeError, OSError) as error:
        raise WeightsError(
            f"timm's own weights for {name} could not be had: {error}; give encoder.weights=PATH"
        ) from error


def _plain(value: Any) -> Any:
    """Lists and dicts of OmegaConf as Python's own, so that they can be written as JSON."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
