"""Crops and flips as one affine grid that samples image and part ids alike.

A view is described by theta (2x3), which takes normalised output coordinates (x, y in [-1, 1],
corners at pixel edges) to normalised input coordinates. One theta serves the image (antialiased),
its ids (nearest) and, inverted, the way back. Windows lie on whole pixels of the image, as
torchvision's do (`snap_to_pixels`).

Shapes: N views, C channels, SxS output.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.errors import ConfigError
from ssl_parts.views.resample import crop_and_resize

ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the whole image


@dataclass
class CropConfig:
    """RandomResizedCrop and flip (METHODS §1.5)."""

    scale: list[float] = field(default_factory=lambda: [0.08, 1.0])  # share of the image's area
    ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])  # width / height
    flip: float = 0.5  # probability of a horizontal flip

    def check(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"views.crop.scale={list(self.scale)}: needs 0 < low <= high <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"views.crop.ratio={list(self.ratio)}: needs 0 < low <= high")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"views.crop.flip={self.flip}: a probability lies in [0, 1]")


def random_crops(n: int, config: CropConfig, generator: torch.Generator) -> Tensor:
    """Draw n thetas, float (N,2,3) on the CPU, with the distribution of torchvision's
    RandomResizedCrop + flip.
    """
    area_NA = _uniform((n, ATTEMPTS), config.scale, generator)
    log_ratio = torch.tensor(config.ratio).log().tolist()
    root_ratio_NA = _uniform((n, ATTEMPTS), log_ratio, generator).mul(0.5).exp()
    width_NA, height_NA = area_NA.sqrt() * root_ratio_NA, area_NA.sqrt() / root_ratio_NA
    fits_NA = (width_NA <= 1) & (height_NA <= 1)
    first_N1 = fits_NA.float().argmax(1, keepdim=True)
    fits_N = fits_NA.any(1)
    width_N = torch.where(fits_N, width_NA.gather(1, first_N1).squeeze(1), 1.0)
    height_N = torch.where(fits_N, height_NA.gather(1, first_N1).squeeze(1), 1.0)
    centre_x_N = (1 - width_N) * (2 * torch.rand(n, generator=generator) - 1)
    centre_y_N = (1 - height_N) * (2 * torch.rand(n, generator=generator) - 1)
    sign_N = torch.where(torch.rand(n, generator=generator) < config.flip, -1.0, 1.0)
    return crop_theta(width_N * sign_N, height_N, centre_x_N, centre_y_N)


def crop_theta(width_N: Tensor, height_N: Tensor, centre_x_N: Tensor, centre_y_N: Tensor) -> Tensor:
    """Theta of crops given as shares of the side and centres in [-1, 1]; a negative width mirrors.
    (N,2,3).
    """
    zero_N = torch.zeros_like(width_N)
    rows = [width_N, zero_N, centre_x_N, zero_N, height_N, centre_y_N]
    return torch.stack(rows, 1).view(-1, 2, 3)


def inverse_theta(theta_N23: Tensor) -> Tensor:
    """The way back: input coordinates to output coordinates of the view, (N,2,3)."""
    linear_N22 = torch.linalg.inv(theta_N23[:, :, :2])
    return torch.cat([linear_N22, -linear_N22 @ theta_N23[:, :, 2:]], 2)


def relative_theta(from_N23: Tensor, to_N23: Tensor) -> Tensor:
    """Coordinates of view `to` -> coordinates of view `from`: sample view `from` with it to see it
    in `to`'s frame.
    """
    back_N23 = inverse_theta(from_N23)
    linear_N22 = back_N23[:, :, :2] @ to_N23[:, :, :2]
    shift_N21 = back_N23[:, :, :2] @ to_N23[:, :, 2:] + back_N23[:, :, 2:]
    return torch.cat([linear_N22, shift_N21], 2)


def snap_to_pixels(theta_N23: Tensor, side: int) -> Tensor:
    """The same crops of images with `side` pixels a side, moved to the nearest whole pixels, at
    least one large.
    """
    x_N, y_N, width_N, height_N = windows(theta_N23, side).to(theta_N23).unbind(1)
    sign_N = torch.where(theta_N23[:, 0, 0] < 0, -1.0, 1.0)
    centre_x_N, centre_y_N = (2 * x_N + width_N) / side - 1, (2 * y_N + height_N) / side - 1
    return crop_theta(sign_N * width_N / side, height_N / side, centre_x_N, centre_y_N)


def windows(theta_N23: Tensor, side: int) -> Tensor:
    """Windows (x, y, width, height) in whole pixels of images with `side` pixels a side: long
    (N,4).
    """
    shares_N2 = torch.stack([theta_N23[:, 0, 0], theta_N23[:, 1, 1]], 1).abs()
    lengths_N2 = (shares_N2 * side).round().clamp(1, side)
    starts_N2 = ((theta_N23[:, :, 2] + 1) * side / 2 - lengths_N2 / 2).round()
    starts_N2 = torch.minimum(starts_N2.clamp(min=0), side - lengths_N2)
    return torch.cat([starts_N2, lengths_N2], 1).long()


def sample_images(
    images_NCHW: Tensor, theta_N23: Tensor, size: int, interpolation: str = "bicubic"
) -> Tensor:
    """Views of square uint8 images: float (N,C,size,size) in [0, 1]. Windows are taken at the
    nearest whole pixels.
    """
    boxes_N4 = windows(theta_N23, images_NCHW.shape[-1])
    return crop_and_resize(images_NCHW, boxes_N4, theta_N23[:, 0, 0] < 0, size, interpolation)


def sample_ids(ids_Nhw: Tensor, theta_N23: Tensor, size: int) -> Tensor:
    """The same views of integer ids, nearest neighbour, long (N,size,size). ids_Nhw may have any
    grid of its own.
    """
    grid = F.affine_grid(theta_N23.float(), [len(theta_N23), 1, size, size], align_corners=False)
    ids = F.grid_sample(
        ids_Nhw.unsqueeze(1).float(),
        grid.to(ids_Nhw.device),
        mode="nearest",
        padding_mode="border",
        align_corners=False,
    )
    return ids.squeeze(1).long()


def _uniform(shape: tuple[int, ...], bounds: list[float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
