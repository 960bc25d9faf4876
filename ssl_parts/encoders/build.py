"""Build an encoder from a timm name.

Whatever is asked for (width, small images, an early last stage) is expressed in arguments of
timm's own constructors, so that an export opens with `timm.create_model("local-dir:DIR",
pretrained=True)` where this project is not installed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import nn

from ssl_parts.encoders.config import PRETRAINED
from ssl_parts.encoders.constructor import (
    check_arguments,
    check_name,
    create_network,
    create_skeleton,
)
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.families import (
    RESNET_LAYERS,
    Vit,
    as_timm,
    freeze_heads,
    is_vit,
    resnet_layers,
)
from ssl_parts.encoders.inputs import (
    StatedInput,
    pretrained_input,
    refuse_other_input,
    refuse_weights_of_another,
)
from ssl_parts.encoders.sources import check_input_statistics, locate
from ssl_parts.encoders.weights import load_located
from ssl_parts.errors import ConfigError


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
        name: a timm model name, such as "resnet50" or "vit_small_patch14_dinov2".
        weights: None for random weights (draw them under `torch.manual_seed`), "pretrained" for
            timm's own, or a path.
        mean, std: input statistics for RGB in [0, 1]. Default: those that the weights state, else
            timm's for the name.
        output_stride: 8, 16 or 32; dilated convolutions instead of strides.
        small: ResNets for 48 to 96 px: a stem of three 3x3 convolutions and output_stride 8 unless
            given.
        width: ResNets: factor on the channels of every stage (and of the stem where `small`).
        last_stage: ResNets and ViTs: leave out everything behind this stage.
        allow_partial: accept weights of a part of the encoder; what is missing stays random.
        timm_kwargs: further arguments of timm's constructor.

    Raises:
        ConfigError: an unknown name, an option that this network does not have, or an input (mean,
            std, padding) other than the weights state.
        WeightsError: weights that cannot be read, belong to another architecture or cover only a
            part.
    """
    check_name(name)
    check_input_statistics(mean, std, "encoder.")
    located = None if weights is None or weights == PRETRAINED else locate(Path(weights))
    if located is not None:
        refuse_weights_of_another(name, located)
    given = {**timm_kwargs, "output_stride": output_stride}
    args = {key: value for key, value in given.items() if value is not None}
    check_arguments(name, args)
    args = architecture_args(name, args, small=small, width=width, last_stage=last_stage)
    encoder = _create_encoder(name, args, pretrained=weights == PRETRAINED)
    if located is not None:
        options = {"allow_partial": allow_partial, "truncated": last_stage is not None}
        encoder.report = load_located(encoder, located, str(weights), **options)
    _set_input(encoder, _stated_by(encoder, weights), mean, std)
    return encoder


def _stated_by(encoder: Encoder, weights: str | Path | None) -> StatedInput | None:
    """The input that the weights state; None for random ones and for those that do not say."""
    if weights == PRETRAINED:
        return pretrained_input(encoder.name, encoder.model)
    return None if encoder.report is None else encoder.report.stated


def _create_encoder(name: str, args: dict[str, Any], *, pretrained: bool) -> Encoder:
    model = create_network(name, args, pretrained)
    freeze_heads(model)
    config = as_timm(model).pretrained_cfg
    return Encoder(name, model, config["mean"], config["std"], args)


def _set_input(
    encoder: Encoder,
    stated: StatedInput | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    """Statistics as asked for, else as the weights state them, else timm's for the name."""
    if stated is not None:
        refuse_other_input(stated, encoder, mean, std)
        mean, std = mean or stated.mean, std or stated.std
    if mean is not None and std is not None:
        encoder.set_normalisation(mean, std)


# ---------------------------------------------------------------- arguments of timm's constructors


def architecture_args(
    name: str, args: dict[str, Any], *, small: bool, width: float, last_stage: str | None
) -> dict[str, Any]:
    """Arguments of timm's constructor for a network made smaller; ConfigError for one that cannot
    be.
    """
    skeleton = create_skeleton(name, args)
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
    layers = [len(getattr(skeleton, layer, ())) for layer in RESNET_LAYERS]
    block: Any = skeleton.get_submodule("layer1.0")
    channels = [
        round(info["num_chs"] // block.expansion * width)
        for info in as_timm(skeleton).feature_info[1:]
    ]
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


def _vit_args(name: str, skeleton: Vit, args: dict, last_stage: str | None) -> dict:
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
