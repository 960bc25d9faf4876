"""Colour, blur and solarisation of a batch on its own device, each image with its own numbers.

The numbers are drawn on the CPU for the global batch, so a process can take its share and one
process with 2B images sees what two with B see. The changes are kornia's.

Images are float RGB in [0, 1], so solarisation inverts what is above 0.5 of 1 (BYOL, arXiv
2006.07733, appendix B). The released code of PARTICLE solarises images of 0 to 255 at 0.5, which
inverts all of them; this does not.

Shapes: N images, C channels, HxW pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import kornia.enhance as enhance
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ssl_parts.views.config import PhotometricConfig


@dataclass(frozen=True)
class Photometry:
    """The numbers of N images, CPU tensors (N,).

    Attributes:
        brightness, contrast, saturation: factors; 1 changes nothing.
        hue: shift in radians; 0 changes nothing.
        sigma: standard deviation of the blur in pixels at 224 px.
        jittered, grey, blurred, solarised: bool, which changes an image gets; the first is for
            brightness, contrast, saturation and hue together.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    jittered: Tensor
    grey: Tensor
    sigma: Tensor
    blurred: Tensor
    solarised: Tensor

    def __getitem__(self, rows: slice | Tensor) -> "Photometry":
        return Photometry(**{name: value[rows] for name, value in vars(self).items()})


def plan_photometry(
    n: int, view: int, config: PhotometricConfig, generator: torch.Generator
) -> Photometry:
    """Draw the numbers of n images of view 0 or 1."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    return Photometry(
        brightness=uniform(1 - config.brightness, 1 + config.brightness),
        contrast=uniform(1 - config.contrast, 1 + config.contrast),
        saturation=uniform(1 - config.saturation, 1 + config.saturation),
        hue=uniform(-config.hue, config.hue) * 2 * torch.pi,
        jittered=chance(config.jitter),
        grey=chance(config.grey),
        sigma=uniform(*config.blur_sigma),
        blurred=chance(config.blur[view]),
        solarised=chance(config.solarise[view]),
    )


def apply_photometry(images_NCHW: Tensor, p: Photometry) -> Tensor:
    """Jitter, greyscale, blur and solarise, in this order: float (N,C,H,W) in [0, 1].

    The masks live on the CPU, so choosing rows waits for no device.
    """
    images_NCHW = _change_rows(images_NCHW, p, p.jittered, _jitter)
    images_NCHW = _change_rows(images_NCHW, p, p.grey, _make_grey)
    images_NCHW = _change_rows(images_NCHW, p, p.blurred, _blur)
    return _change_rows(images_NCHW, p, p.solarised, _solarise)


def _change_rows(
    images_NCHW: Tensor,
    p: Photometry,
    chosen_N: Tensor,
    change: Callable[[Tensor, Photometry], Tensor],
) -> Tensor:
    rows = chosen_N.nonzero().squeeze(1)
    if len(rows) == 0:
        return images_NCHW
    if len(rows) == len(images_NCHW):
        return change(images_NCHW, p)
    on_device = rows.to(images_NCHW.device, non_blocking=True)
    return images_NCHW.index_copy(0, on_device, change(images_NCHW[on_device], p[rows]))


def _jitter(x: Tensor, p: Photometry) -> Tensor:
    """Apply torchvision's ColorJitter arithmetic: brightness, contrast, saturation, hue."""
    device = x.device
    x = enhance.adjust_brightness_accumulative(x, p.brightness.to(device))
    x = enhance.adjust_contrast_with_mean_subtraction(x, p.contrast.to(device)).clamp(0, 1)
    x = enhance.adjust_saturation_with_gray_subtraction(x, p.saturation.to(device)).clamp(0, 1)
    return enhance.adjust_hue(x, p.hue.to(device)).clamp(0, 1)


def _make_grey(x: Tensor, _: Photometry) -> Tensor:
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).expand_as(x)


def _blur(x: Tensor, p: Photometry) -> Tensor:
    """Blur with a Gaussian kernel of a tenth of the side (23 at 224 px), sigma scaled alike."""
    size = x.shape[-1]
    kernel = max(3, int(size * 23 / 224) // 2 * 2 + 1)
    sigma_N2 = (p.sigma * size / 224).clamp(min=0.05).to(x.device).unsqueeze(1).expand(-1, 2)
    return gaussian_blur2d(x, (kernel, kernel), sigma_N2)


def _solarise(x: Tensor, _: Photometry) -> Tensor:
    return enhance.solarize(x, 0.5)
