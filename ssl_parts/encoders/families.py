"""What the encoder needs to know about each family of timm networks: its stages, and how to read
the maps.

Shape legend: B images, D channels, h x w cells of a map, T tokens, N patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast

from timm.models import checkpoint_seq
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_parts.errors import ConfigError

Extracted = tuple[dict[str, Tensor], Tensor, Tensor | None]  # maps by stage, pooled_BD, tokens_BTD

Vit = VisionTransformer | Eva

RESNET_LAYERS = ("layer1", "layer2", "layer3", "layer4")


class TimmNetwork(Protocol):
    """What timm gives its networks beside `nn.Module`."""

    pretrained_cfg: dict[str, Any]
    feature_info: Sequence[dict[str, Any]]
    num_features: int

    def set_grad_checkpointing(self, enable: bool) -> None: ...

    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]: ...


def as_timm(model: nn.Module) -> TimmNetwork:
    """The same network, for the type checker: `nn.Module` does not know what timm adds."""
    return cast(TimmNetwork, model)


@dataclass(frozen=True)
class Layout:
    """Names, channels and strides of a network's maps, and the function that computes the ones
    asked for.
    """

    stages: tuple[str, ...]
    dims: dict[str, int]
    strides: dict[str, int]
    feature_dim: int
    extract: Callable[[Any, Tensor, Sequence[str]], Extracted]  # of a network of this family


def layout_of(model: nn.Module) -> Layout:
    """The layout of a timm network; ConfigError for a network without NCHW maps by stage."""
    if isinstance(model, ResNet):
        return _resnet_layout(model)
    if is_vit(model):
        return _vit_layout(model)
    if has_maps(model):
        return _conv_layout(model)
    raise ConfigError(
        f"{type(model).__name__} has no dense maps that timm can return (forward_intermediates); "
        "choose a ResNet, VGG, MobileNet, EfficientNet, ConvNeXt or ViT"
    )


def has_maps(model: nn.Module) -> bool:
    """Whether timm can return the network's maps by stage."""
    return hasattr(model, "forward_intermediates") and hasattr(model, "feature_info")


def is_vit(model: nn.Module) -> TypeGuard[Vit]:
    """Whether the network is a plain ViT (timm keeps DINOv3 and other rotary ones in its class
    Eva).
    """
    return isinstance(model, (VisionTransformer, Eva))


# ---------------------------------------------------------------- ResNet


def resnet_layers(model: ResNet) -> tuple[str, ...]:
    """The residual stages that are there: a network cut short keeps the later ones as empty,
    identical stages.
    """
    return tuple(name for name in RESNET_LAYERS if len(getattr(model, name, ())))


def _resnet_layout(model: ResNet) -> Layout:
    stem, *rest = as_timm(model).feature_info
    infos = {info["module"]: info for info in rest}
    layers = resnet_layers(model)
    # timm's entry for the stem is taken before the max-pool, ours after it (docs/method.md, section 1.2).
    dims: dict[str, int] = {"stem": stem["num_chs"]} | {n: infos[n]["num_chs"] for n in layers}
    strides: dict[str, int] = {"stem": 4} | {n: infos[n]["reduction"] for n in layers}
    return Layout(("stem", *layers), dims, strides, dims[layers[-1]], _extract_resnet)


def _extract_resnet(model: ResNet, x: Tensor, stages: Sequence[str]) -> Extracted:
    x = model.maxpool(model.act1(model.bn1(model.conv1(x))))
    maps = {"stem": x}
    for name in resnet_layers(model):
        layer = getattr(model, name)
        x = checkpoint_seq(layer, x) if model.grad_checkpointing else layer(x)
        maps[name] = x
    return maps, x.mean((2, 3)), None


# ---------------------------------------------------------------- ViT


def _vit_layout(model: Vit) -> Layout:
    stages = tuple(f"block{i}" for i in range(len(model.blocks)))
    embed: Any = model.patch_embed
    patch: int = embed.patch_size[0]
    dims, strides = dict.fromkeys(stages, model.embed_dim), dict.fromkeys(stages, patch)
    return Layout(stages, dims, strides, model.embed_dim, _extract_vit)


def _extract_vit(model: Vit, x: Tensor, stages: Sequence[str]) -> Extracted:
    last = len(model.blocks) - 1
    embed: Any = model.patch_embed
    grid = embed.dynamic_feat_size(x.shape[-2:])
    earlier = sorted({int(stage.removeprefix("block")) for stage in stages} - {last})
    if earlier:
        tokens_BTD, found = as_timm(model).forward_intermediates(x, indices=earlier)
    else:
        tokens_BTD, found = as_timm(model).forward_features(x), []
    maps = {f"block{i}": map_BDhw for i, map_BDhw in zip(earlier, found, strict=True)}
    patches_BND = tokens_BTD[:, model.num_prefix_tokens :]
    maps[f"block{last}"] = patches_BND.transpose(1, 2).unflatten(2, tuple(grid)).contiguous()
    return maps, model.forward_head(tokens_BTD, pre_logits=True), tokens_BTD


# ---------------------------------------------------------------- other convolutional networks


def _has_head_conv(model: nn.Module) -> bool:
    # EfficientNet and MobileNetV1/V2 widen the last map with a 1x1 convolution that belongs to
    # their features; MobileNetV3 does it after pooling, so there the last stage is the last map.
    return isinstance(model, EfficientNet)


def _conv_layout(model: nn.Module) -> Layout:
    infos = list(as_timm(model).feature_info)
    stages = [f"stage{i}" for i in range(1, len(infos) + 1)]
    dims = {stage: info["num_chs"] for stage, info in zip(stages, infos)}
    strides = {stage: info["reduction"] for stage, info in zip(stages, infos)}
    if _has_head_conv(model):
        dims["head"], strides["head"] = as_timm(model).num_features, strides[stages[-1]]
        stages.append("head")
    return Layout(tuple(stages), dims, strides, dims[stages[-1]], _extract_conv)


def _extract_conv(model: nn.Module, x: Tensor, stages: Sequence[str]) -> Extracted:
    final_BDhw, found = as_timm(model).forward_intermediates(x)
    maps = {f"stage{i}": map_BDhw for i, map_BDhw in enumerate(found, start=1)}
    if _has_head_conv(model):
        maps["head"] = final_BDhw
        return maps, final_BDhw.mean((2, 3)), None
    pooled_BD = found[-1].mean((2, 3))
    if isinstance(model, ConvNeXt):
        # ConvNeXt's last LayerNorm sits behind the pooling and is part of what was pretrained.
        norm = model.get_submodule("head.norm")
        if not isinstance(norm, nn.Identity):
            pooled_BD = norm(pooled_BD[:, :, None, None]).flatten(1)
    return maps, pooled_BD, None


# ---------------------------------------------------------------- parameters that no feature reads


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Key prefixes of what classifies: in checkpoints it is ignored, in the network it is frozen."""
    if isinstance(model, ConvNeXt):
        return ("head.fc.", "head.pre_logits.")
    if isinstance(model, (VisionTransformer, Eva)):
        return ("head.", "head_dist.")
    if isinstance(model, MobileNetV3):
        return ("conv_head.", "norm_head.", "classifier.")
    return ("fc.", "head.", "classifier.", "pre_logits.")


def freeze_heads(model: nn.Module) -> None:
    """Parameters outside every feature take no gradient, or distributed training would wait for
    them in vain.
    """
    prefixes = head_prefixes(model)
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
