"""Crops against torchvision's, and the one grid for images and ids."""

import torch
import torchvision.transforms.v2.functional as TF
from torchvision.transforms import RandomResizedCrop

from ssl_parts.views.geometry import (
    CropConfig,
    crop_theta,
    inverse_theta,
    random_crops,
    relative_theta,
    sample_ids,
    sample_images,
)


def crop(width, height, x, y):
    return crop_theta(*(torch.tensor([float(v)]) for v in (width, height, x, y)))


def test_a_crop_on_pixel_edges_is_the_slice_and_ids_move_with_it():
    image = torch.rand(1, 3, 8, 8)
    ids = torch.arange(64).view(1, 8, 8)
    theta = crop(0.5, 0.5, 0.5, -0.5)  # the upper right quarter
    torch.testing.assert_close(sample_images(image, theta, 4, "bilinear"), image[:, :, :4, 4:])
    assert torch.equal(sample_ids(ids, theta, 4), ids[:, :4, 4:])
    mirrored = crop(-0.5, 0.5, 0.5, -0.5)
    assert torch.equal(sample_ids(ids, mirrored, 4), ids[:, :4, 4:].flip(2))


def test_enlarging_a_crop_is_torchvisions_resized_crop():
    image = torch.rand(1, 3, 16, 16)
    expected = TF.resized_crop(
        image, 4, 2, 8, 8, [16, 16], interpolation=TF.InterpolationMode.BILINEAR, antialias=False
    )
    ours = sample_images(image, crop(0.5, 0.5, (2 + 4) / 8 - 1, (4 + 4) / 8 - 1), 16, "bilinear")
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # torchvision clamps at the crop's own border
    torch.testing.assert_close(ours[inner], expected[inner], atol=1e-5, rtol=1e-4)


def test_the_distribution_is_torchvisions():
    theta = random_crops(20_000, CropConfig(), torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    image = torch.zeros(3, 1000, 1000)
    boxes = (
        torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(5_000)]) / 1000
    )
    ours_h, ours_w = theta[:, 1, 1], theta[:, 0, 0].abs()
    for ours, theirs in ((ours_h, boxes[:, 2]), (ours_w, boxes[:, 3])):
        quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
        torch.testing.assert_close(ours.quantile(quantiles), theirs.quantile(quantiles), atol=0.02, rtol=0)
    top = (theta[:, 1, 2] + 1 - ours_h) / 2
    torch.testing.assert_close(top.quantile(quantiles), boxes[:, 0].quantile(quantiles), atol=0.02, rtol=0)
    assert abs(float((theta[:, 0, 0] < 0).float().mean()) - 0.5) < 0.02


def test_inverse_and_relative_undo_the_view():
    g = torch.Generator().manual_seed(1)
    one, two = (random_crops(50, CropConfig(), g) for _ in range(2))
    points = torch.rand(50, 2, 7, generator=g) * 2 - 1
    apply = lambda theta, p: theta[:, :, :2] @ p + theta[:, :, 2:]  # noqa: E731
    torch.testing.assert_close(apply(inverse_theta(one), apply(one, points)), points, atol=1e-4, rtol=1e-4)
    in_one = apply(relative_theta(one, two), points)
    torch.testing.assert_close(apply(one, in_one), apply(two, points), atol=1e-4, rtol=1e-4)
