"""Augmentation of labelled images for supervised training: one view, a pure function of (seed,
step).

The grid and the colours are those of self-supervised views (ssl_parts.views), drawn on the CPU for
the global batch.
"""

from torch import Tensor

from evaluation.finetuning.config import AugmentConfig
from ssl_parts.seeds import seeded_generator
from ssl_parts.views.config import CropConfig, PhotometricConfig
from ssl_parts.views.geometry import plan_crops, sample_images
from ssl_parts.views.photometric import apply_photometry, plan_photometry


def augment(
    images_B3HW: Tensor, config: AugmentConfig, batch: int, rows: slice, seed: int, step: int
) -> Tensor:
    """Float views (b,3,H,W) in [0,1] of uint8 images, on their device.

    Args:
        images_B3HW: the images of this process: positions `rows` of the step's global batch of
            `batch`.
    """
    generator = seeded_generator(seed, step)
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
