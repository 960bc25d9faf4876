"""Crops against torchvision's, and the one grid for images and ids."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ssl_parts.views.config import CropConfig
from ssl_parts.views.geometry import (
    find_windows,
    invert_theta,
    make_theta,
    plan_crops,
    relate_theta,
    sample_ids,
    sample_images,
    snap_to_pixels,
)
from ssl_parts.views.resample import resize_by_products


def crop(width, height, x, y):
    return make_theta(*(torch.tensor([float(v)]) for v in (width, height, x, y)))


def bytes_of(*shape, seed=0):
    """Noise of middling contrast: overshoot stays within 8 bits, so the order of the two passes
    cannot matter.
    """
    return torch.randint(
        64, 192, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_a_crop_on_pixel_edges_is_the_slice_and_ids_move_with_it():
    image = bytes_of(1, 3, 8, 8)
    ids = torch.arange(64).view(1, 8, 8)
    theta = crop(0.5, 0.5, 0.5, -0.5)  # the upper right quarter
    torch.testing.assert_close(sample_images(image, theta, 4), image[:, :, :4, 4:].float() / 255)
    assert torch.equal(sample_ids(ids, theta, 4), ids[:, :4, 4:])
    mirrored = crop(-0.5, 0.5, 0.5, -0.5)
    torch.testing.assert_close(
        sample_images(image, mirrored, 4), image[:, :, :4, 4:].flip(3).float() / 255
    )
    assert torch.equal(sample_ids(ids, mirrored, 4), ids[:, :4, 4:].flip(2))


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [16, 48, 90])
def test_views_are_torchvisions_resized_crops_on_either_path(mode, size):
    images, theta = (
        bytes_of(6, 3, 64, 64),
        plan_crops(6, CropConfig(), torch.Generator().manual_seed(size)),
    )
    ours = sample_images(images, theta, size, mode)
    boxes = find_windows(theta, 64)
    mirrored = theta[:, 0, 0] < 0
    products = resize_by_products(images.float() / 255, boxes, mirrored, size, mode)
    for n, (x, y, width, height) in enumerate(boxes.tolist()):
        pillow = to_pil_image(images[n]).crop((x, y, x + width, y + height))
        expected = (
            pil_to_tensor(
                pillow.resize((size, size), getattr(Image.Resampling, mode.upper()))
            ).float()
            / 255
        )
        expected = expected.flip(2) if mirrored[n] else expected
        torch.testing.assert_close(products[n], expected, atol=2.01 / 255, rtol=0)
        torch.testing.assert_close(ours[n], expected, atol=2.01 / 255, rtol=0)


def test_snapped_crops_are_the_nearest_windows_of_whole_pixels_inside_the_image():
    theta = plan_crops(500, CropConfig(scale=[0.001, 1.0]), torch.Generator().manual_seed(2))
    snapped = snap_to_pixels(theta, 50)
    assert torch.equal(find_windows(snapped, 50), find_windows(theta, 50))  # nothing moves twice
    assert torch.equal(snapped[:, 0, 0] < 0, theta[:, 0, 0] < 0)
    # in units of half a side: at most a pixel
    assert float((snapped - theta).abs().max()) <= 2 / 50
    x, y, width, height = find_windows(theta, 50).unbind(1)
    assert min(x.min(), y.min()) >= 0 and min(width.min(), height.min()) >= 1
    assert max((x + width).max(), (y + height).max()) <= 50


def test_the_distribution_is_torchvisions():
    theta = plan_crops(20_000, CropConfig(), torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    image = torch.zeros(3, 1000, 1000)
    boxes = (
        torch.tensor(
            [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(5_000)]
        )
        / 1000
    )
    ours_h, ours_w = theta[:, 1, 1], theta[:, 0, 0].abs()
    for ours, theirs in ((ours_h, boxes[:, 2]), (ours_w, boxes[:, 3])):
        quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
        torch.testing.assert_close(
            ours.quantile(quantiles), theirs.quantile(quantiles), atol=0.02, rtol=0
        )
    top = (theta[:, 1, 2] + 1 - ours_h) / 2
    torch.testing.assert_close(
        top.quantile(quantiles), boxes[:, 0].quantile(quantiles), atol=0.02, rtol=0
    )
    assert abs(float((theta[:, 0, 0] < 0).float().mean()) - 0.5) < 0.02


def test_inverse_and_relative_undo_the_view():
    g = torch.Generator().manual_seed(1)
    one, two = (plan_crops(50, CropConfig(), g) for _ in range(2))
    points = torch.rand(50, 2, 7, generator=g) * 2 - 1
    apply = lambda theta, p: theta[:, :, :2] @ p + theta[:, :, 2:]  # noqa: E731
    torch.testing.assert_close(
        apply(invert_theta(one), apply(one, points)), points, atol=1e-4, rtol=1e-4
    )
    in_one = apply(relate_theta(one, two), points)
    torch.testing.assert_close(apply(one, in_one), apply(two, points), atol=1e-4, rtol=1e-4)
