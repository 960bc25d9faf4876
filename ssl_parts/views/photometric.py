"""Colour, blur and solarisation of a batch on its own device, each image with its own numbers
(METHODS §1.5; kornia).

The numbers are drawn on the CPU for the global batch, so a rank can take its share and one process
with 2B images sees what two with B see. Images are float RGB in [0, 1]: solarisation inverts what
is above 0.5 of 1 (METHODS §1.8).
"""

from dataclasses import dataclass, field

import kornia.enhance as enhance
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ssl_parts.errors import ConfigError


@dataclass
class PhotometricConfig:
    """Strengths and probabilities; where two numbers stand they are view 1 and view 2."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # in turns of the colour circle
    jitter: float = 0.8  # probability of the four above
    grey: float = 0.0  # probability of greyscale (SimCLR 0.2; PARTICLE none)
    blur: list[float] = field(default_factory=lambda: [1.0, 0.1])  # probability
    # pixels at 224 px, scaled with the view size
    blur_sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    solarise: list[float] = field(default_factory=lambda: [0.0, 0.2])  # probability

    def check(self) -> None:
        for key in ("jitter", "grey"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(
                    f"views.photometric.{key}={getattr(self, key)}: a probability lies in [0, 1]"
                )
        for key in ("blur", "solarise"):
            pair = list(getattr(self, key))
            if len(pair) != 2 or not all(0 <= p <= 1 for p in pair):
                raise ConfigError(
                    f"views.photometric.{key}={pair}: two probabilities, for view 1 and view 2"
                )
        for key in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(
                    f"views.photometric.{key}={getattr(self, key)}: a strength lies in [0, 1]"
                )
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(
                f"views.photometric.hue={self.hue}: lies in [0, 0.5] turns of the colour circle"
            )


@dataclass(frozen=True)
class Photometry:
    """What happens to each of N images; CPU tensors of length N. Factors of 1 and shifts of 0
    change nothing.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # radians
    jittered: Tensor  # bool
    grey: Tensor  # bool
    sigma: Tensor  # pixels at 224
    blurred: Tensor  # bool
    solarised: Tensor  # bool

    def __getitem__(self, rows: slice) -> "Photometry":
        return Photometry(**{name: value[rows] for name, value in vars(self).items()})


def draw_photometry(
    n: int, view: int, config: PhotometricConfig, generator: torch.Generator
) -> Photometry:
    """Numbers for n images of view 0 or 1."""

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
    """Jitter, greyscale, blur, solarise, in this order. Masks live on the CPU: choosing rows waits
    for no device.
    """
    images_NCHW = _on_rows(images_NCHW, p, p.jittered, _jitter)
    images_NCHW = _on_rows(images_NCHW, p, p.grey, _grey)
    images_NCHW = _on_rows(images_NCHW, p, p.blurred, _blur)
    return _on_rows(images_NCHW, p, p.solarised, lambda x, _: enhance.solarize(x, 0.5))


def _on_rows(images: Tensor, p: Photometry, chosen_N: Tensor, change) -> Tensor:  # noqa: ANN001
    rows = chosen_N.nonzero().squeeze(1)
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, p)
    on_device = rows.to(images.device, non_blocking=True)
    return images.index_copy(0, on_device, change(images[on_device], p[rows]))


def _jitter(x: Tensor, p: Photometry) -> Tensor:
    """torchvision's ColorJitter arithmetic in the order brightness, contrast, saturation, hue."""
    device = x.device
    x = enhance.adjust_brightness_accumulative(x, p.brightness.to(device))
    x = enhance.adjust_contrast_with_mean_subtraction(x, p.contrast.to(device)).clamp(0, 1)
    x = enhance.adjust_saturation_with_gray_subtraction(x, p.saturation.to(device)).clamp(0, 1)
    return enhance.adjust_hue(x, p.hue.to(device)).clamp(0, 1)


def _grey(x: Tensor, _: Photometry) -> Tensor:
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).expand_as(x)


def _blur(x: Tensor, p: Photometry) -> Tensor:
    """Gaussian with a kernel of about a tenth of the side (23 at 224 px), sigma scaled alike."""
    size = x.shape[-1]
    kernel = max(3, int(size * 23 / 224) // 2 * 2 + 1)
    sigma_N2 = (p.sigma * size / 224).clamp(min=0.05).to(x.device).unsqueeze(1).expand(-1, 2)
    return gaussian_blur2d(x, (kernel, kernel), sigma_N2)
