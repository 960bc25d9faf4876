"""Crops and flips as one affine grid that samples image and part ids alike.

A view is described by theta (2x3), which takes normalised output coordinates (x, y in [-1, 1],
corners at pixel edges) to normalised input coordinates. One theta serves the image (antialiased),
its ids (nearest) and, inverted, the way back. Windows lie on whole pixels of the image, as
torchvision's do (`snap_to_pixels`).

Shapes: N views, A attempts, C channels, SxS output, hxw grid of the ids.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.views.config import CropConfig
from ssl_parts.views.resample import crop_and_resize

ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the whole image


def plan_crops(n: int, config: CropConfig, generator: torch.Generator) -> Tensor:
    """Draw n crops with flips, float theta (N,2,3) on the CPU.

    The distribution is that of torchvision's RandomResizedCrop and RandomHorizontalFlip: area
    uniform in `config.scale`, logarithm of the side ratio uniform in `config.ratio`, the first of
    ten attempts that fits into the image, else the whole image.
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
    return make_theta(width_N * sign_N, height_N, centre_x_N, centre_y_N)


def make_theta(width_N: Tensor, height_N: Tensor, centre_x_N: Tensor, centre_y_N: Tensor) -> Tensor:
    """Build theta (N,2,3) of crops.

    Args:
        width_N, height_N: shares of the image's side; a negative width mirrors.
        centre_x_N, centre_y_N: centres in [-1, 1].
    """
    zero_N = torch.zeros_like(width_N)
    rows = [width_N, zero_N, centre_x_N, zero_N, height_N, centre_y_N]
    return torch.stack(rows, 1).view(-1, 2, 3)


def invert_theta(theta_N23: Tensor) -> Tensor:
    """Invert theta: input coordinates to output coordinates of the view, (N,2,3)."""
    linear_N22 = torch.linalg.inv(theta_N23[:, :, :2])
    return torch.cat([linear_N22, -linear_N22 @ theta_N23[:, :, 2:]], 2)


def relate_theta(from_N23: Tensor, to_N23: Tensor) -> Tensor:
    """Relate two views of one image: coordinates of view `to` to those of view `from`, (N,2,3).

    View `from` sampled with it is seen in the frame of view `to`.
    """
    back_N23 = invert_theta(from_N23)
    linear_N22 = back_N23[:, :, :2] @ to_N23[:, :, :2]
    shift_N21 = back_N23[:, :, :2] @ to_N23[:, :, 2:] + back_N23[:, :, 2:]
    return torch.cat([linear_N22, shift_N21], 2)


def snap_to_pixels(theta_N23: Tensor, side: int) -> Tensor:
    """Move crops to the nearest whole pixels of images of side x side pixels: theta (N,2,3)."""
    x_N, y_N, width_N, height_N = find_windows(theta_N23, side).to(theta_N23).unbind(1)
    sign_N = torch.where(theta_N23[:, 0, 0] < 0, -1.0, 1.0)
    centre_x_N, centre_y_N = (2 * x_N + width_N) / side - 1, (2 * y_N + height_N) / side - 1
    return make_theta(sign_N * width_N / side, height_N / side, centre_x_N, centre_y_N)


def find_windows(theta_N23: Tensor, side: int) -> Tensor:
    """Find the windows (x, y, width, height) of crops, long (N,4).

    In whole pixels of images of side x side pixels, inside the image and at least one pixel large.
    """
    shares_N2 = torch.stack([theta_N23[:, 0, 0], theta_N23[:, 1, 1]], 1).abs()
    lengths_N2 = (shares_N2 * side).round().clamp(1, side)
    starts_N2 = ((theta_N23[:, :, 2] + 1) * side / 2 - lengths_N2 / 2).round()
    starts_N2 = torch.minimum(starts_N2.clamp(min=0), side - lengths_N2)
    return torch.cat([starts_N2, lengths_N2], 1).long()


def sample_images(
    images_NCHW: Tensor, theta_N23: Tensor, size: int, interpolation: str = "bicubic"
) -> Tensor:
    """Sample views of square uint8 images: float (N,C,size,size) in [0, 1].

    Windows are taken at the nearest whole pixels; theta_N23 is on the CPU.
    """
    boxes_N4 = find_windows(theta_N23, images_NCHW.shape[-1])
    return crop_and_resize(images_NCHW, boxes_N4, theta_N23[:, 0, 0] < 0, size, interpolation)


def sample_ids(ids_Nhw: Tensor, theta_N23: Tensor, size: int) -> Tensor:
    """Sample the same views of integer ids by nearest neighbour: long (N,size,size).

    The ids may have any grid over the whole image.
    """
    shape = [len(theta_N23), 1, size, size]
    grid_NSS2 = F.affine_grid(theta_N23.float(), shape, align_corners=False).to(ids_Nhw.device)
    sampled_N1SS = F.grid_sample(
        ids_Nhw.unsqueeze(1).float(),
        grid_NSS2,
        mode="nearest",
        padding_mode="border",
        align_corners=False,
    )
    return sampled_N1SS.squeeze(1).long()


def _uniform(shape: tuple[int, ...], bounds: list[float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
