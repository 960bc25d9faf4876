"""Augmentation of labelled images for supervised training: one view, a pure function of (seed,
step).

The grid and the colours are those of self-supervised views (ssl_parts.views), drawn on the CPU for
the global batch.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ssl_parts.errors import ConfigError
from ssl_parts.views.config import CropConfig, PhotometricConfig
from ssl_parts.views.geometry import plan_crops, sample_images
from ssl_parts.views.photometric import apply_photometry, plan_photometry


@dataclass
class AugmentConfig:
    """Random crops and flips, and colour jitter. Evaluation sees whole images."""

    # of a crop, as a share of the image's area
    scale: list[float] = field(default_factory=lambda: [0.4, 1.0])
    ratio: list[float] = field(default_factory=lambda: [0.8, 1.25])  # width / height of a crop
    flip: float = 0.5  # probability
    jitter: float = 0.8  # probability of the four below
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0  # in turns of the colour circle; colours tell species apart

    def check(self) -> None:
        """ConfigError for a value out of range."""
        if not len(self.scale) == len(self.ratio) == 2:
            raise ConfigError(
                f"augment.scale={list(self.scale)} and augment.ratio={list(self.ratio)}: two numbers each"
            )
        low, high = self.scale
        if not (0 < low <= high <= 1 and 0 < self.ratio[0] <= self.ratio[1]):
            raise ConfigError(
                f"augment.scale={list(self.scale)}, augment.ratio={list(self.ratio)}: each low <= high, above 0, "
                "and the scale at most 1"
            )
        for key in ("flip", "jitter", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"augment.{key}={getattr(self, key)} must lie in [0, 1]")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f"augment.hue={self.hue} must lie in [0, 0.5]")


def augment(
    images_B3HW: Tensor, config: AugmentConfig, batch: int, rows: slice, seed: int, step: int
) -> Tensor:
    """Float views (b,3,H,W) in [0,1] of uint8 images, on their device.

    Args:
        images_B3HW: the images of this process: positions `rows` of the step's global batch of
            `batch`.
    """
    generator = step_generator(seed, step)
    crop = CropConfig(scale=list(config.scale), ratio=list(config.ratio), flip=config.flip)
    theta_N23 = plan_crops(batch, crop, generator)[rows]
    colour = PhotometricConfig(
        config.brightness,
        config.contrast,
        config.saturation,
        config.hue,
        config.jitter,
        blur=[0, 0],
        solarise=[0, 0],
    )
    photometry = plan_photometry(batch, 0, colour, generator)[rows]
    return apply_photometry(
        sample_images(images_B3HW, theta_N23, images_B3HW.shape[-1]), photometry
    )


def step_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU whose numbers depend on the given integers alone."""
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))
