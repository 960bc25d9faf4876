"""What an encoder sees, as colour: principal components and attention of its cells, laid over the
image.

Shapes: N images, D channels, h x w cells, H x W pixels, T tokens, A attention heads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ssl_parts.encoders import Encoder
from ssl_parts.encoders.families import is_vit

BATCH = 16
SPREAD = 2.0  # standard deviations of a component that fill the range of a colour channel
ATTENTION_COLOURS = "cividis"  # made for readers with any colour vision


def principal_scores(map_NDhw: Tensor) -> Tensor:
    """The first three principal components of all cells of all images together, each with unit
    deviation (N, 3, h, w).

    The sign of a component is that with a positive third moment, so that it does not depend on the
    solver.
    """
    N, D, h, w = map_NDhw.shape
    points = map_NDhw.permute(0, 2, 3, 1).reshape(-1, D).double()
    points = F.normalize(points, dim=1)
    points = points - points.mean(0)
    _, vectors = torch.linalg.eigh(points.T @ points)
    scores = points @ vectors[:, -3:].flip(1)
    # fewer than three channels: the colours left over stay grey
    scores = F.pad(scores, (0, 3 - scores.shape[1]))
    signs = torch.where((scores**3).sum(0) < 0, -1.0, 1.0).double()
    scores = scores * signs / scores.std(0).clamp_min(1e-9)
    return scores.float().reshape(N, h, w, 3).permute(0, 3, 1, 2)


def aligned(scores_N3hw: Tensor, reference_N3hw: Tensor) -> Tensor:
    """The scores rotated (orthogonal Procrustes) so that their colours match the reference as well
    as they can.
    """
    points, wanted = (
        s.permute(0, 2, 3, 1).reshape(-1, 3).double() for s in (scores_N3hw, reference_N3hw)
    )
    left, _, right = torch.linalg.svd(points.T @ wanted)
    turned = (points @ (left @ right)).float()
    return turned.reshape(scores_N3hw.shape[0], *scores_N3hw.shape[2:], 3).permute(0, 3, 1, 2)


def as_colours(scores_N3hw: Tensor, side: int) -> Tensor:
    """Scores as RGB, uint8 (N, 3, side, side), smoothly enlarged."""
    colour = (0.5 + scores_N3hw / (2 * SPREAD)).clamp(0, 1)
    return resize((255 * colour).round().to(torch.uint8), [side, side], antialias=True)


@torch.inference_mode()
def attention_map(encoder: Encoder, images_NCHW: Tensor) -> Tensor:
    """Where the encoder looks, in [0, 1] for each image, float (N, h, w).

    ViTs: attention of [CLS] (or, without one, of all patches) in the last block, mean over heads.
    Convolutional networks: length of the last map's vectors, which is what average pooling weighs
    a cell by.
    """
    found = [_attention(encoder, part) for part in images_NCHW.split(BATCH)]
    values_Nhw = torch.cat(found).cpu()
    low = values_Nhw.amin((1, 2), keepdim=True)
    return (values_Nhw - low) / (values_Nhw.amax((1, 2), keepdim=True) - low).clamp_min(1e-9)


def heat(values_Nhw: Tensor, images_NCHW: Tensor, opacity: float = 0.6) -> Tensor:
    """Values in [0, 1] as a colour map over uint8 images, uint8 (N, 3, H, W)."""
    fine_NHW = F.interpolate(values_Nhw[:, None], images_NCHW.shape[-2:], mode="bilinear")[:, 0]
    colour = torch.from_numpy(
        matplotlib.colormaps[ATTENTION_COLOURS](fine_NHW.numpy())[..., :3]
    ).permute(0, 3, 1, 2)
    grey = images_NCHW.float().mean(1, keepdim=True)
    return (grey * (1 - opacity) + 255 * colour.float() * opacity).round().to(torch.uint8)


@torch.inference_mode()
def last_map(encoder: Encoder, images_NCHW: Tensor, device: str | torch.device = "cpu") -> Tensor:
    """The last map of uint8 images, float32 (N, D, h, w), on the CPU."""
    encoder = encoder.eval().to(device)
    parts = [
        encoder(part.to(device).float() / 255).maps[encoder.last_stage]
        for part in images_NCHW.split(BATCH)
    ]
    return torch.cat([part.float().cpu() for part in parts])


def _attention(encoder: Encoder, images_NCHW: Tensor) -> Tensor:
    pixels = images_NCHW.to(encoder.mean.device).float() / 255
    encoder.eval()
    model = encoder.model
    if not is_vit(model):
        return encoder(pixels).maps[encoder.last_stage].float().norm(dim=1)
    with _caught_attention(model.blocks[-1].get_submodule("attn")) as caught:
        grid = encoder(pixels).maps[encoder.last_stage].shape[-2:]
    weights_NTT = caught[0].float().mean(1)
    prefix = getattr(model, "num_prefix_tokens", 0)
    rows = weights_NTT[:, :1] if prefix else weights_NTT
    return rows[:, :, prefix:].mean(1).unflatten(1, tuple(grid))


@contextmanager
def _caught_attention(attention: Any) -> Iterator[list[Tensor]]:
    """The softmaxed weights (N, A, T, T) of timm's attention: they pass through its dropout when
    it is not fused.
    """
    caught: list[Tensor] = []
    fused = attention.fused_attn
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(
        lambda module, inputs, output: caught.append(output)
    )
    try:
        yield caught
    finally:
        hook.remove()
        attention.fused_attn = fused


def enlarged(images: Tensor | Sequence[Tensor], side: int) -> Tensor:
    """Images as uint8 (N, 3, side, side)."""
    stacked = images if isinstance(images, Tensor) else torch.stack(list(images))
    return resize(stacked, [side, side], antialias=True)
