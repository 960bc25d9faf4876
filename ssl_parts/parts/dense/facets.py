"""Dense descriptors from inside a ViT: keys, queries, values or tokens of any block, on a grid
finer than the patches.

Sources: Amir et al., arXiv 2112.05814; PARTICLE, arXiv 2309.13822, section 3. The keys of the last
block of DINO tell parts apart better than its tokens, and patches that overlap (a stride under the
patch size, positional embeddings interpolated) make the grid finer.

Shapes: B images, T tokens (prefix first), D channels, h x w grid of patches, A heads, E channels
per head.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.parts.dense.config import FACETS


@dataclass(frozen=True)
class Facet:
    """descriptors_BDhw: all heads one after the other. attention_BAhw: what the CLS token of that
    block looks at.
    """

    descriptors_BDhw: Tensor
    attention_BAhw: Tensor | None


def has_facets(encoder: object) -> bool:
    """Whether keys, queries and values can be read: timm's VisionTransformer (DINO, DINOv2, MAE,
    CLIP, ...).
    """
    return _transformer(encoder) is not None


def _transformer(encoder: object) -> Any:
    """Its VisionTransformer, whose attributes timm does not type; None for other networks."""
    model: Any = getattr(encoder, "model", None)
    if not isinstance(model, VisionTransformer):
        return None
    blocks: Any = model.blocks
    return model if all(hasattr(block.attn, "qkv") for block in blocks) else None


def vit_facet(
    encoder: Encoder, images_BCHW: Tensor, facet: str, block: int = -1, stride: int | None = None
) -> Facet:
    """Descriptors of one block.

    Args:
        images_BCHW: float RGB in [0, 1].
        facet: token (the block's output), key, query or value (of its attention).
        block: 0 is the first, -1 the last.
        stride: in pixels; None is the patch size.

    Raises:
        ConfigError: an unknown facet or block, another kind of network, a stride the patches or
            the image do not allow.
    """
    if facet not in FACETS:
        raise ConfigError(f"parts.facet={facet!r} is not one of {', '.join(FACETS)}")
    model = _transformer(encoder)
    if model is None:
        raise ConfigError(
            f"parts.facet={facet!r} reads timm's VisionTransformer; {encoder.name} is another "
            "network"
        )
    if not -len(model.blocks) <= block < len(model.blocks):
        raise ConfigError(f"parts.block={block}: {encoder.name} has {len(model.blocks)} blocks")
    x_BTD, (h, w) = _embed(model, encoder.normalise(images_BCHW), stride)
    chosen = block % len(model.blocks)
    for earlier in model.blocks[:chosen]:
        x_BTD = earlier(x_BTD)
    queries, keys, values = _qkv(model.blocks[chosen], x_BTD)
    if facet == "token":
        y_BTD = model.blocks[chosen](x_BTD)
    else:
        y_BTD = {"key": keys, "query": queries, "value": values}[facet].transpose(1, 2).flatten(2)
    prefix = model.num_prefix_tokens
    descriptors_BDhw = y_BTD[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
    return Facet(descriptors_BDhw, _cls_attention(model, queries, keys, h, w))


def _embed(model: Any, x_BCHW: Tensor, stride: int | None) -> tuple[Tensor, tuple[int, int]]:
    """Patch tokens at the stride with their positions, prefix tokens in front; and the grid."""
    embed = model.patch_embed
    step = _step_of(embed.proj.kernel_size, stride, x_BCHW.shape[-2:])
    patches_BDhw = F.conv2d(x_BCHW, embed.proj.weight, embed.proj.bias, step)
    x_BhwD = embed.norm(patches_BDhw.permute(0, 2, 3, 1))
    B, h, w, D = x_BhwD.shape
    prefix = [t.expand(B, -1, -1) for t in (model.cls_token, model.reg_token) if t is not None]
    x_BTD = x_BhwD.reshape(B, h * w, D)
    if model.pos_embed is None or model.no_embed_class:
        x_BTD = x_BTD if model.pos_embed is None else x_BTD + _positions(model, h, w, 0)
        x_BTD = torch.cat([*prefix, x_BTD], 1)
    else:
        x_BTD = torch.cat([*prefix, x_BTD], 1) + _positions(model, h, w, model.num_prefix_tokens)
    return model.norm_pre(x_BTD), (h, w)


def _step_of(patch: tuple[int, int], stride: int | None, sides: tuple[int, ...]) -> tuple[int, int]:
    """The stride in both directions; ConfigError where it does not fit."""
    step = patch if stride is None else (stride, stride)
    fits = all(s >= 1 and p % s == 0 for p, s in zip(patch, step))
    if not fits or any((side - p) % s for side, p, s in zip(sides, patch, step)):
        raise ConfigError(
            f"parts.stride={stride} does not fit patches of {patch[0]} px in images of "
            f"{sides[0]} x {sides[1]} px; it must divide the patch size and the image size"
        )
    return step


def _positions(model: Any, h: int, w: int, prefix: int) -> Tensor:
    grid = model.patch_embed.grid_size
    return resample_abs_pos_embed(
        model.pos_embed, new_size=[h, w], old_size=list(grid), num_prefix_tokens=prefix
    )


def _qkv(block: Any, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, A, T, E) as the block's attention makes them."""
    attention = block.attn
    split = (
        attention.qkv(block.norm1(x_BTD))
        .unflatten(2, (3, attention.num_heads, -1))
        .permute(2, 0, 3, 1, 4)
    )
    return attention.q_norm(split[0]), attention.k_norm(split[1]), split[2]


def _cls_attention(model: Any, queries: Tensor, keys: Tensor, h: int, w: int) -> Tensor | None:
    """What the CLS token attends to (B, A, h, w); None without one."""
    if model.cls_token is None:
        return None
    logits_BAT = (queries[:, :, :1] * queries.shape[-1] ** -0.5 @ keys.transpose(2, 3))[:, :, 0]
    return logits_BAT.softmax(-1)[..., model.num_prefix_tokens :].unflatten(2, (h, w))
