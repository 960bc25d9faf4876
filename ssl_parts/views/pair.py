"""Two views of each image, with the part ids that moved along, as a pure function of (seed, step).

Shapes: B images of this process, N = 2B views (first all view 1, then all view 2), SxS view, gxg
grid of ids.
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from ssl_parts.errors import ConfigError
from ssl_parts.views.background import BLOCK, exchange_backgrounds
from ssl_parts.views.geometry import (
    CropConfig,
    random_crops,
    sample_ids,
    sample_images,
    snap_to_pixels,
)
from ssl_parts.views.photometric import (
    PhotometricConfig,
    Photometry,
    apply_photometry,
    draw_photometry,
)


class Interpolation(Enum):
    bicubic = "bicubic"
    bilinear = "bilinear"


@dataclass
class ViewsConfig:
    """Both views of a pair: METHODS §1.5."""

    size: int = 224  # side of a view in pixels
    # side of the grid on which a view's part ids are sampled, before the vote on the feature grid
    ids_size: int = 56
    interpolation: Interpolation = Interpolation.bicubic
    # probability that a view gets another image's background; needs a foreground step
    swap_background: float = 0.0
    crop: CropConfig = field(default_factory=CropConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)

    def check(self) -> None:
        if self.size < 16:
            raise ConfigError(f"views.size={self.size}: a view has at least 16 pixels a side")
        if not 1 <= self.ids_size <= self.size:
            raise ConfigError(f"views.ids_size={self.ids_size}: lies in 1..views.size={self.size}")
        if not 0 <= self.swap_background <= 1:
            raise ConfigError(
                f"views.swap_background={self.swap_background}: a probability lies in [0, 1]"
            )
        self.crop.check()
        self.photometric.check()


@dataclass(frozen=True)
class Recipe:
    """What two views of n images are made with; drawn on the CPU, no pixel touched."""

    theta_N23: Tensor
    photometry: tuple[Photometry, Photometry]
    # bool (B,): which images of view 1 and 2 get another background
    swapped: tuple[Tensor, Tensor]
    # (B, 256) numbers in [0, 1): the priority of each part id, the same in both views
    uniform_B: Tensor

    def share(self, rows: slice) -> "Recipe":
        """The part of it that belongs to the images `rows` (a rank's share of the global batch)."""
        one, two = self.theta_N23.chunk(2)
        return Recipe(
            torch.cat([one[rows], two[rows]]),
            (self.photometry[0][rows], self.photometry[1][rows]),
            (self.swapped[0][rows], self.swapped[1][rows]),
            self.uniform_B[rows],
        )


@dataclass(frozen=True)
class Views:
    """Two views a image, stacked."""

    images_NCHW: Tensor  # float in [0, 1]
    ids_Ngg: Tensor | None  # long
    theta_N23: Tensor  # output -> input coordinates; its inverse undoes the view
    priority_NK: Tensor | None  # which part ids to sample first


def check_share(share: int, config: ViewsConfig) -> None:
    """ConfigError unless a process's share of the batch can exchange backgrounds."""
    if config.swap_background > 0 and share % BLOCK:
        raise ConfigError(
            f"views.swap_background={config.swap_background} exchanges backgrounds within blocks of {BLOCK} images, "
            f"but a process has {share} images a step; make train.batch a multiple of {BLOCK} x processes"
        )


def draw_recipe(n: int, config: ViewsConfig, seed: int, step: int) -> Recipe:
    """A pure function of its arguments: the same after a resume, on any device, for any split over
    processes.
    """
    entropy = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(entropy >> 1))
    theta = torch.cat([random_crops(n, config.crop, generator) for _ in range(2)])
    photometry = tuple(draw_photometry(n, view, config.photometric, generator) for view in range(2))
    swapped = tuple(torch.rand(n, generator=generator) < config.swap_background for _ in range(2))
    return Recipe(theta, photometry, swapped, torch.rand(n, 256, generator=generator))


def make_views(
    images_BCHW: Tensor,
    ids_Bhw: Tensor | None,
    recipe: Recipe,
    config: ViewsConfig,
    k: int = 0,
    background: int | None = None,
) -> Views:
    """Sample both views on the device of the images.

    Args:
        images_BCHW: uint8, square, of the geometry in which the ids were discovered.
        ids_Bhw: part ids on any grid over the whole image, or None.
        recipe: from `draw_recipe`, for exactly these B images.
        k: number of part ids; gives the priorities.
        background: the id of what is not object; without it no background is exchanged.
    """
    device = images_BCHW.device
    theta = snap_to_pixels(recipe.theta_N23, images_BCHW.shape[-1])
    views = []
    for view, (part, photometry) in enumerate(zip(theta.chunk(2), recipe.photometry, strict=True)):
        shown = images_BCHW
        if ids_Bhw is not None and background is not None:
            shown = exchange_backgrounds(
                images_BCHW, ids_Bhw != background, recipe.swapped[view], view
            )
        views.append(
            apply_photometry(
                sample_images(shown, part, config.size, config.interpolation.value), photometry
            )
        )
    theta = theta.to(device, non_blocking=True)
    if ids_Bhw is None:
        return Views(torch.cat(views), None, theta, None)
    ids = torch.cat([sample_ids(ids_Bhw, part, config.ids_size) for part in theta.chunk(2)])
    priority = recipe.uniform_B[:, :k].to(device, non_blocking=True)
    return Views(torch.cat(views), ids, theta, torch.cat([priority, priority]))
