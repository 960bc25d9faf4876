"""Dense descriptors from inside a ViT: keys, queries, values or tokens of any block, on a grid
finer than the patches.

METHODS §1.3, after Amir et al. (2021): the keys of the last block of DINO tell parts apart better
than its tokens, and patches that overlap (a stride under the patch size, positional embeddings
interpolated) make the grid finer.

Shapes: B images, T tokens (prefix first), D channels, h x w grid of patches, A heads, E channels
of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.errors import ConfigError

FACETS = ("token", "key", "query", "value")


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
    model = getattr(encoder, "model", None)
    return isinstance(model, VisionTransformer) and all(
        hasattr(block.attn, "qkv") for block in model.blocks
    )


def vit_facet(
    encoder: Encoder, images_BCHW: Tensor, facet: str, block: int = -1, stride: int | None = None
) -> Facet:
    """Descriptors of one block.

    Args:
        images_BCHW: float RGB in [0, 1]. facet: token (the block's output), key, query or value
            (of its attention).
        block: 0 is the first, -1 the last. stride: in pixels; None is the patch size.

    Raises:
        ConfigError: an unknown facet or block, another kind of network, a stride the patches or
            the image do not allow.
    """
    if facet not in FACETS:
        raise ConfigError(f"parts.facet={facet!r} is not one of {', '.join(FACETS)}")
    if not has_facets(encoder):
        raise ConfigError(
            f"parts.facet={facet!r} reads timm's VisionTransformer; {encoder.name} is another network"
        )
    model = encoder.model
    if not -len(model.blocks) <= block < len(model.blocks):
        raise ConfigError(f"parts.block={block}: {encoder.name} has {len(model.blocks)} blocks")
    x_BTD, (h, w) = _embed(model, encoder.normalise(images_BCHW), stride)
    chosen = block % len(model.blocks)
    for earlier in model.blocks[:chosen]:
        x_BTD = earlier(x_BTD)
    queries, keys, values = _qkv(model.blocks[chosen], x_BTD)
    of_tokens = {"key": keys, "query": queries, "value": values}
    y_BTD = (
        model.blocks[chosen](x_BTD)
        if facet == "token"
        else of_tokens[facet].transpose(1, 2).flatten(2)
    )
    prefix = model.num_prefix_tokens
    descriptors_BDhw = y_BTD[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
    return Facet(descriptors_BDhw, _cls_attention(model, queries, keys, h, w))


def _embed(
    model: VisionTransformer, x_BCHW: Tensor, stride: int | None
) -> tuple[Tensor, tuple[int, int]]:
    """Patch tokens at the stride with their positions, prefix tokens in front; and the grid."""
    embed = model.patch_embed
    patch = embed.proj.kernel_size
    step = patch if stride is None else (stride, stride)
    height, width = x_BCHW.shape[-2:]
    fits = all(s >= 1 and p % s == 0 for p, s in zip(patch, step))
    if not fits or (height - patch[0]) % step[0] or (width - patch[1]) % step[1]:
        raise ConfigError(
            f"parts.stride={stride} does not fit patches of {patch[0]} px in images of {height} x {width} px; "
            "it must divide the patch size and the image size"
        )
    x_BhwD = embed.norm(
        F.conv2d(x_BCHW, embed.proj.weight, embed.proj.bias, step).permute(0, 2, 3, 1)
    )
    B, h, w, D = x_BhwD.shape
    prefix = [t.expand(B, -1, -1) for t in (model.cls_token, model.reg_token) if t is not None]
    x_BTD = x_BhwD.reshape(B, h * w, D)
    if model.pos_embed is None or model.no_embed_class:
        x_BTD = x_BTD if model.pos_embed is None else x_BTD + _positions(model, h, w, 0)
        x_BTD = torch.cat([*prefix, x_BTD], 1)
    else:
        x_BTD = torch.cat([*prefix, x_BTD], 1) + _positions(model, h, w, model.num_prefix_tokens)
    return model.norm_pre(x_BTD), (h, w)


def _positions(model: VisionTransformer, h: int, w: int, prefix: int) -> Tensor:
    grid = model.patch_embed.grid_size
    return resample_abs_pos_embed(
        model.pos_embed, new_size=(h, w), old_size=grid, num_prefix_tokens=prefix
    )


def _qkv(block: nn.Module, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, A, T, E) as the block's attention makes them."""
    attention = block.attn
    split = (
        attention.qkv(block.norm1(x_BTD))
        .unflatten(2, (3, attention.num_heads, -1))
        .permute(2, 0, 3, 1, 4)
    )
    return attention.q_norm(split[0]), attention.k_norm(split[1]), split[2]


def _cls_attention(
    model: VisionTransformer, queries: Tensor, keys: Tensor, h: int, w: int
) -> Tensor | None:
    if model.cls_token is None:
        return None
    logits_BAT = (queries[:, :, :1] * queries.shape[-1] ** -0.5 @ keys.transpose(2, 3))[:, :, 0]
    return logits_BAT.softmax(-1)[..., model.num_prefix_tokens :].unflatten(2, (h, w))
