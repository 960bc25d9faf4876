"""Names of other projects' checkpoints in terms of timm's.

A layout translates one name of the file, its prefix already gone, into the encoder's name, or says
None. Names that are equal to timm's (DINO, DINOv2, MoCo, SwAV, iBOT, VISSL's and mmselfsup's
ResNets, solo-learn, torchvision's ResNets and VGGs) need no layout; what timm itself converts
(DINOv3, ConvNeXt's original names) is left to timm.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from torch import Tensor, nn

from ssl_parts.encoders.families import is_vit
from ssl_parts.encoders.hugging_face import convnext_name, resnet_name, vit_name

Translate = Callable[[str], str | None]

HUGGING_FACE = "Hugging Face"
TORCHVISION = "torchvision"

# Components that a program has put into names around a module, whichever it was: torch.compile,
# FSDP of torch and fairscale, activation checkpointing, Lightning Fabric.
WRAPPED = {
    *(
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_fpw_module",
        "_forward_module",
    ),
    *("_wrapped_module", "wrapped_module", "_ddp_module"),
}


@dataclass(frozen=True)
class NameLayout:
    """Whose names, and how one becomes the encoder's."""

    whose: str
    native: Translate


def layouts_for(model: nn.Module) -> list[NameLayout]:
    """The layouts that checkpoints for this network are published in; timm's own names come first."""
    found = [NameLayout("timm", lambda name: name)]
    if isinstance(model, ResNet):
        found += [NameLayout("Sequential", _from_sequential), NameLayout("DeepMind", _from_haiku)]
        found.append(NameLayout(HUGGING_FACE, resnet_name))
    if isinstance(model, EfficientNet):
        found.append(NameLayout(TORCHVISION, _torchvision_mobilenet(model)))
    if isinstance(model, ConvNeXt):
        found += [
            NameLayout(TORCHVISION, _from_torchvision_convnext),
            NameLayout(HUGGING_FACE, convnext_name),
        ]
    if is_vit(model):
        found += [
            NameLayout(TORCHVISION, _from_torchvision_vit),
            NameLayout("mmselfsup", _from_mmselfsup_vit),
            NameLayout(HUGGING_FACE, vit_name),
        ]
    return found


def fitted(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor in the encoder's order of axes, where only that differs.

    TensorFlow and JAX keep kernels as (h, w, in, out) and per-channel vectors as (1, 1, 1, C);
    torchvision keeps ConvNeXt's layer scale as (C, 1, 1). Kernels are never as large as channels,
    so the shapes tell which it is.
    """
    if tuple(tensor.shape) == tuple(shape):
        return tensor
    if tensor.ndim == 4 and tuple(tensor.permute(3, 2, 0, 1).shape) == tuple(shape):
        return tensor.permute(3, 2, 0, 1).contiguous()
    if [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]:
        return tensor.reshape(shape)
    return tensor


def tidy_names(names: Iterable[str], model: nn.Module) -> dict[str, str]:
    """Each name without what its program wrapped around modules; a name that another one takes is
    left as it is.

    Slashes of JAX become dots, a ViT's chunked blocks (DINOv2's "blocks.1.7.") lose the chunk, and
    `WRAPPED` and an inner "module" go wherever they stand.
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        short = _tidy(name, model)
        short = name if short in taken else short
        taken.add(short)
        chosen[name] = short
    return chosen


def _tidy(name: str, model: nn.Module) -> str:
    words = name.replace("/~/", ".").replace("/", ".").split(".")
    words = [w for i, w in enumerate(words) if w not in WRAPPED and not (i and w == "module")]
    name = ".".join(words)
    return re.sub(r"(^|\.)blocks\.\d+\.(\d+)\.", r"\1blocks.\2.", name) if is_vit(model) else name


# ---------------------------------------------------------------- ResNets

_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def _from_sequential(name: str) -> str | None:
    """`nn.Sequential(*resnet.children())`: PARTICLE's releases, lightly's examples, DetCon's
    PyTorch ports.
    """
    first, _, rest = name.partition(".")
    return f"{_CHILDREN[first]}.{rest}" if first in _CHILDREN and rest else None


_HAIKU_BLOCK = re.compile(
    r"(?:block_groups\.)?block_group_(\d)\.(?:blocks\.)?block_(\d+)\."
    r"(shortcut_)?(conv|batchnorm|norm)(?:_(\d))?\.(.+)"
)
_HAIKU_STEM = re.compile(r"initial_(conv|batchnorm|norm)(?:_1)?\.(.+)")
_HAIKU_LEAF = {
    "w": "weight",
    "scale": "weight",
    "weight": "weight",
    "offset": "bias",
    "bias": "bias",
    "mean_ema.average": "running_mean",
    "running_mean": "running_mean",
    "var_ema.average": "running_var",
    "running_var": "running_var",
}


def _from_haiku(name: str) -> str | None:
    """DeepMind's ResNets (DetCon, BYOL) in haiku's names, and the ports that kept them."""
    stem, block = _HAIKU_STEM.fullmatch(name), _HAIKU_BLOCK.fullmatch(name)
    if stem is not None:
        kind, leaf = stem.groups()
        owner = "conv1" if kind == "conv" else "bn1"
    elif block is not None:
        group, number, shortcut, kind, which, leaf = block.groups()
        part = "conv" if kind == "conv" else "bn"
        inner = f"downsample.{int(part == 'bn')}" if shortcut else f"{part}{int(which or 0) + 1}"
        owner = f"layer{int(group) + 1}.{number}.{inner}"
    else:
        return None
    return f"{owner}.{_HAIKU_LEAF[leaf]}" if leaf in _HAIKU_LEAF else None


# ---------------------------------------------------------------- torchvision


def _torchvision_mobilenet(model: EfficientNet) -> Translate:
    """torchvision numbers the blocks of MobileNetV2 through: features.1 to features.17."""
    places = [
        f"blocks.{s}.{b}"
        for s, stage in enumerate(model.blocks)
        for b, _ in enumerate(stage.children())
    ]
    plain = {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}
    expanding = {"conv.0.0": "conv_pw", "conv.0.1": "bn1", "conv.1.0": "conv_dw", "conv.1.1": "bn2"}
    expanding |= {"conv.2": "conv_pwl", "conv.3": "bn3"}
    table = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
    last = f"features.{len(places) + 1}"
    table |= {f"{last}.0": "conv_head", f"{last}.1": "bn2"}
    for number, place in enumerate(places, start=1):
        inner = plain if number == 1 else expanding
        table |= {
            f"features.{number}.{theirs}": f"{place}.{ours}" for theirs, ours in inner.items()
        }

    def native(name: str) -> str | None:
        owner, _, leaf = name.rpartition(".")
        return f"{table[owner]}.{leaf}" if owner in table else None

    return native


_CONVNEXT_BLOCK = {
    "block.0.": "conv_dw.",
    "block.2.": "norm.",
    "block.3.": "mlp.fc1.",
    "block.5.": "mlp.fc2.",
}


def _from_torchvision_convnext(name: str) -> str | None:
    if name.startswith("classifier.0."):
        return "head.norm." + name.removeprefix("classifier.0.")
    match = re.fullmatch(r"features\.(\d+)\.(\d+)\.(.+)", name)
    if match is None:
        return None
    number, inner, rest = int(match[1]), match[2], match[3]
    if number == 0:
        return f"stem.{inner}.{rest}"
    if number % 2 == 0:
        return f"stages.{number // 2}.downsample.{inner}.{rest}"
    rest = "gamma" if rest == "layer_scale" else rest
    for theirs, ours in _CONVNEXT_BLOCK.items():
        rest = rest.replace(theirs, ours)
    return f"stages.{number // 2}.blocks.{inner}.{rest}"


_VIT_WHOLE = {"class_token": "cls_token", "encoder.pos_embedding": "pos_embed"}
_VIT_PARTS = (
    ("conv_proj.", "patch_embed.proj."),
    ("encoder.layers.encoder_layer_", "blocks."),
    ("encoder.ln.", "norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".self_attention.in_proj_", ".attn.qkv."),
    (".self_attention.out_proj.", ".attn.proj."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.3.", ".mlp.fc2."),
    (".mlp.linear_1.", ".mlp.fc1."),
    (".mlp.linear_2.", ".mlp.fc2."),
)


def _from_torchvision_vit(name: str) -> str | None:
    return _VIT_WHOLE.get(name) or _replaced(name, _VIT_PARTS)


# ---------------------------------------------------------------- mmselfsup's ViTs (mmpretrain's names)

_MM_PARTS = (
    ("patch_embed.projection.", "patch_embed.proj."),
    ("layers.", "blocks."),
    (".ln1.", ".norm1."),
    (".ln2.", ".norm2."),
    (".ffn.blocks.0.0.", ".mlp.fc1."),  # its "layers." is renamed by then
    (".ffn.blocks.1.", ".mlp.fc2."),
)


def _from_mmselfsup_vit(name: str) -> str | None:
    if name in ("cls_token", "pos_embed"):
        return name
    if name.startswith("ln1."):  # behind the last block, not in one
        return "norm." + name.removeprefix("ln1.")
    return _replaced(name, _MM_PARTS)


def _replaced(name: str, parts: tuple[tuple[str, str], ...]) -> str | None:
    changed = name
    for theirs, ours in parts:
        changed = changed.replace(theirs, ours)
    return changed if changed != name else None
