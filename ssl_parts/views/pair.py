"""Two views of each image, with the part ids that moved along, as a pure function of (seed, step).

`plan_views` draws all random numbers of a step, `make_views` applies them to pixels and ids.

Shapes: B images of this process, V views per image, N = V·B views (first all view 1, then all
view 2), SxS pixels of a view, gxg grid of its ids, K part ids.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssl_parts.errors import ConfigError
from ssl_parts.views.background import BLOCK, exchange_backgrounds
from ssl_parts.views.config import ViewsConfig
from ssl_parts.views.geometry import plan_crops, sample_ids, sample_images, snap_to_pixels
from ssl_parts.views.photometric import Photometry, apply_photometry, plan_photometry

MAX_IDS = 256  # part ids are stored in a byte


@dataclass(frozen=True)
class ViewPlan:
    """What V views of each of B images are made with; on the CPU, no pixel touched.

    Attributes:
        theta_N23: crop and flip of each view, output to input coordinates.
        photometry: for each of the V views the colour changes of its B images.
        swapped: for each of the V views a bool (B,): which images get another background.
        uniform_BK: numbers in [0, 1), one per possible part id (K = 256): its priority, the same
            in all views of an image.
    """

    theta_N23: Tensor
    photometry: tuple[Photometry, ...]
    swapped: tuple[Tensor, ...]
    uniform_BK: Tensor

    def select_rows(self, rows: slice) -> "ViewPlan":
        """The plan of the images `rows`, such as a process's share of the global batch."""
        theta_VB23 = self.theta_N23.unflatten(0, (len(self.photometry), -1))
        return ViewPlan(
            theta_VB23[:, rows].flatten(0, 1),
            tuple(photometry[rows] for photometry in self.photometry),
            tuple(swapped_B[rows] for swapped_B in self.swapped),
            self.uniform_BK[rows],
        )


@dataclass(frozen=True)
class Views:
    """V views per image, stacked.

    Attributes:
        images_NCHW: float in [0, 1].
        ids_Ngg: part ids of each view, long; None where there are none.
        theta_N23: output to input coordinates; its inverse undoes the view.
        priority_NK: which part ids to sample first, highest first; None where there are none.
    """

    images_NCHW: Tensor
    ids_Ngg: Tensor | None
    theta_N23: Tensor
    priority_NK: Tensor | None


def check_share(share: int, config: ViewsConfig) -> None:
    """Check that a process's share of the batch can exchange backgrounds.

    Raises:
        ConfigError: it is no multiple of the block within which backgrounds are exchanged.
    """
    if config.swap_background > 0 and share % BLOCK:
        raise ConfigError(
            f"views.swap_background={config.swap_background} exchanges backgrounds within blocks "
            f"of {BLOCK} images, but a process has {share} images per step; make train.batch a "
            f"multiple of {BLOCK} x processes"
        )


def plan_views(n: int, config: ViewsConfig, seed: int, step: int, count: int = 2) -> ViewPlan:
    """Draw all random numbers of `count` views, one or two, of n images.

    A pure function of its arguments: the same after a resume, on any device, and for any split of
    the n images over processes (`ViewPlan.select_rows`).
    """
    entropy = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(entropy >> 1))
    theta_N23 = torch.cat([plan_crops(n, config.crop, generator) for _ in range(count)])
    photometry = tuple(
        plan_photometry(n, view, config.photometric, generator) for view in range(count)
    )
    swapped = tuple(
        torch.rand(n, generator=generator) < config.swap_background for _ in range(count)
    )
    return ViewPlan(theta_N23, photometry, swapped, torch.rand(n, MAX_IDS, generator=generator))


def make_views(
    images_BCHW: Tensor,
    ids_Bhw: Tensor | None,
    plan: ViewPlan,
    config: ViewsConfig,
    k: int = 0,
    background: int | None = None,
) -> Views:
    """Make the planned views on the device of the images.

    Args:
        images_BCHW: uint8, square, of the geometry in which the ids were discovered.
        ids_Bhw: part ids on any grid over the whole image, or None.
        plan: from `plan_views`, for exactly these B images.
        config: sizes of views and ids, interpolation.
        k: number of part ids, the columns of `Views.priority_NK`.
        background: the id of what is not object; without it no background is exchanged.

    Example:
        >>> images_BCHW = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
        >>> ids_Bhw = torch.randint(4, (2, 8, 8))
        >>> config = ViewsConfig(size=32, ids_size=16)
        >>> plan = plan_views(2, config, seed=0, step=0)
        >>> views = make_views(images_BCHW, ids_Bhw, plan, config, k=4)
        >>> views.images_NCHW.shape, views.ids_Ngg.shape, views.priority_NK.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 16, 16]), torch.Size([4, 4]))
    """
    device, count = images_BCHW.device, len(plan.photometry)
    foreground_Bhw = None if ids_Bhw is None or background is None else ids_Bhw != background
    theta_N23 = snap_to_pixels(plan.theta_N23, images_BCHW.shape[-1])
    images_NCHW = torch.cat(
        [
            _make_view(images_BCHW, foreground_Bhw, theta_B23, plan, view, config)
            for view, theta_B23 in enumerate(theta_N23.chunk(count))
        ]
    )
    theta_N23 = theta_N23.to(device, non_blocking=True)
    if ids_Bhw is None:
        return Views(images_NCHW, None, theta_N23, None)
    ids_Ngg = torch.cat(
        [sample_ids(ids_Bhw, theta_B23, config.ids_size) for theta_B23 in theta_N23.chunk(count)]
    )
    priority_BK = plan.uniform_BK[:, :k].to(device, non_blocking=True)
    return Views(images_NCHW, ids_Ngg, theta_N23, torch.cat([priority_BK] * count))


def _make_view(
    images_BCHW: Tensor,
    foreground_Bhw: Tensor | None,
    theta_B23: Tensor,
    plan: ViewPlan,
    view: int,
    config: ViewsConfig,
) -> Tensor:
    """View number `view` of each image, float (B,C,S,S): exchange, crop and flip, colour."""
    if foreground_Bhw is not None:
        images_BCHW = exchange_backgrounds(images_BCHW, foreground_Bhw, plan.swapped[view], view)
    crops_BCSS = sample_images(images_BCHW, theta_B23, config.size, config.interpolation.value)
    return apply_photometry(crops_BCSS, plan.photometry[view])
