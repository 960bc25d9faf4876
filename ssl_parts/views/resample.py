"""Crop windows out of a batch of images and resize them, as torchvision's RandomResizedCrop does.

Antialiased bicubic or bilinear, as Pillow does it. On a CPU each window goes through torch's
vectorised uint8 kernel; on a GPU the whole batch is two matrix products with the same weights
(equal to within rounding to 8 bits, tested).

Shapes: N images, C channels, HxW pixels, SxS output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_resize(
    images_NCHW: Tensor,
    windows_N4: Tensor,
    mirrored_N: Tensor,
    size: int,
    interpolation: str = "bicubic",
) -> Tensor:
    """Crop a window out of each image and resize it: float (N,C,size,size) in [0, 1].

    Args:
        images_NCHW: uint8.
        windows_N4: long (x, y, width, height) in whole pixels; on the CPU.
        mirrored_N: bool, which views are flipped; on the CPU.
        interpolation: "bicubic" or "bilinear", antialiased.
    """
    device = images_NCHW.device
    if device.type == "cpu":
        views_NCSS = _resize_each_window(images_NCHW, windows_N4, mirrored_N, size, interpolation)
        return views_NCSS.float().div_(255)
    pixels_NCHW = images_NCHW.float().div_(255)
    return resize_by_products(
        pixels_NCHW, windows_N4.to(device), mirrored_N.to(device), size, interpolation
    )


def resize_by_products(
    pixels_NCHW: Tensor, windows_N4: Tensor, mirrored_N: Tensor, size: int, interpolation: str
) -> Tensor:
    """Do the same for float images in [0, 1] on any device, as two matrix products.

    Weights of rows times image times weights of columns.
    """
    x_N, y_N, width_N, height_N = windows_N4.unbind(1)
    rows_NSH = weigh_pixels(y_N, height_N, size, pixels_NCHW.shape[2], interpolation)
    columns_NSW = weigh_pixels(x_N, width_N, size, pixels_NCHW.shape[3], interpolation)
    columns_NSW = torch.where(mirrored_N[:, None, None], columns_NSW.flip(1), columns_NSW)
    # between its passes Pillow keeps 8 bits, which cannot overshoot: clamped here for the same
    narrow_NCHS = (pixels_NCHW @ columns_NSW[:, None].mT).clamp_(0, 1)
    return (rows_NSH[:, None] @ narrow_NCHS).clamp_(0, 1)


def weigh_pixels(
    start_N: Tensor, length_N: Tensor, size: int, side: int, interpolation: str
) -> Tensor:
    """Compute how much each input pixel adds to each output pixel: float (N,size,side).

    The output pixels cover the window [start, start + length) of a line of `side` pixels. The
    kernel is stretched where the window shrinks, and cut and normalised at the window's edges
    (Pillow's rule).
    """
    scale_N11 = (length_N / size)[:, None, None]
    centre_NS1 = (
        start_N[:, None, None]
        + (torch.arange(size, device=start_N.device)[:, None] + 0.5) * scale_N11
    )
    pixel_W = torch.arange(side, device=start_N.device)
    kernel = {"bicubic": _cubic, "bilinear": _linear}[interpolation]
    weights_NSW = kernel((pixel_W + 0.5 - centre_NS1) / scale_N11.clamp(min=1))
    end_N = start_N + length_N
    weights_NSW = weights_NSW * (
        (pixel_W >= start_N[:, None, None]) & (pixel_W < end_N[:, None, None])
    )
    return weights_NSW / weights_NSW.sum(2, keepdim=True)


def _resize_each_window(
    images_NCHW: Tensor, windows_N4: Tensor, mirrored_N: Tensor, size: int, interpolation: str
) -> Tensor:
    out = images_NCHW.new_empty(*images_NCHW.shape[:2], size, size)
    for n, ((x, y, width, height), mirror) in enumerate(
        zip(windows_N4.tolist(), mirrored_N.tolist(), strict=True)
    ):
        window = images_NCHW[n : n + 1, :, y : y + height, x : x + width]
        view = F.interpolate(
            window, (size, size), mode=interpolation, antialias=True, align_corners=False
        )
        out[n] = view[0].flip(2) if mirror else view[0]
    return out


def _cubic(distance: Tensor, a: float = -0.5) -> Tensor:
    """Keys' cubic convolution kernel, with Pillow's a."""
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def _linear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)
