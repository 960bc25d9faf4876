import numpy as np
import pytest
import torch
from PIL import Image

from ssl_parts.data.geometry import Fit, Square, fit_image, fit_sample
from ssl_parts.data.records import Sample
from ssl_parts.errors import ConfigError, DataError

FITS = list(Fit)


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    coarse = np.random.default_rng(seed).integers(
        0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    return torch.from_numpy(
        np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width].copy()
    ).permute(2, 0, 1)


@pytest.mark.parametrize("size", [16, 50, 224])
@pytest.mark.parametrize("fit", FITS)
def test_image_is_pil_antialiased_bilinear_of_the_window(fit, size):
    """PIL resizes the window by another implementation of the same filter: equal within rounding."""
    image = noise(90, 130)
    crop = {
        "squash": (0, 0, 130, 90),
        "pad": (0, 0, 130, 90),
        "square": (20, 0, 110, 90),
        "crop": (25, 5, 104, 84),
    }
    box = crop[fit.value]
    target = (size, round(size * 90 / 130)) if fit is Fit.pad else (size, size)
    pil = (
        Image.fromarray(image.permute(1, 2, 0).numpy())
        .crop(box)
        .resize(target, Image.Resampling.BILINEAR)
    )
    expected = torch.from_numpy(np.array(pil)).permute(2, 0, 1)
    ours = fit_image(image, size, fit)
    assert ours.shape == (3, size, size) and ours.dtype == torch.uint8
    if fit is Fit.pad:
        top = (size - target[1]) // 2
        mean = image.float().mean((1, 2)).round().to(torch.uint8)
        assert (ours[:, :top] == mean[:, None, None]).all()
        ours = ours[:, top : top + target[1]]
    assert (ours.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(90, 130), (131, 64), (64, 64)])
@pytest.mark.parametrize("fit", FITS)
def test_mask_box_and_keypoints_follow_the_image(fit, shape):
    """A coloured rectangle is drawn; its box, mask and centre must lie on it after the move."""
    height, width = shape
    x0, y0, x1, y1 = width // 2 - 14, height // 2 - 9, width // 2 + 12, height // 2 + 17
    image, mask = (
        torch.full((3, *shape), 40, dtype=torch.uint8),
        torch.zeros(shape, dtype=torch.uint8),
    )
    image[:, y0:y1, x0:x1] = torch.tensor([250, 0, 0], dtype=torch.uint8)[:, None, None]
    mask[y0:y1, x0:x1] = 3
    points = torch.tensor(
        [[x0 + 0.5, y0 + 0.5, 1], [(x0 + x1) / 2, (y0 + y1) / 2, 1], [5, 5, 0]], dtype=torch.float32
    )
    moved = fit_sample(Sample(image, 1, "r", (x0, y0, x1, y1), mask, points), 96, fit)
    painted = (moved.image[0].int() - moved.image[1].int()) > 125
    assert (painted != (moved.part_mask == 3)).float().mean() < 0.01
    ys, xs = torch.nonzero(moved.part_mask, as_tuple=True)
    seen = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert np.allclose(moved.box, [float(v) for v in seen], atol=1.01)
    x, y, visible = moved.keypoints[1].tolist()
    assert (
        visible == 1
        and abs(x - (seen[0] + seen[2]) / 2) <= 1
        and abs(y - (seen[1] + seen[3]) / 2) <= 1
    )
    x, y, _ = moved.keypoints[0].tolist()
    assert moved.part_mask[int(y), int(x)] == 3
    assert moved.keypoints[2].tolist() == [0, 0, 0]


def test_mask_nearest_against_brute_force():
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (37, 53), dtype=np.uint8))
    moved = Square.of(37, 53, 20, "squash").mask(mask)
    for r in range(20):
        for c in range(20):
            assert moved[r, c] == mask[int((r + 0.5) * 37 / 20), int((c + 0.5) * 53 / 20)]
    two = torch.stack([mask > 3, mask < 2]).to(torch.uint8)
    assert torch.equal(
        Square.of(37, 53, 20, "crop").mask(two)[0], Square.of(37, 53, 20, "crop").mask(two[0])
    )


def test_what_is_cut_away_is_not_visible():
    points = torch.tensor([[1.0, 25.0, 1.0], [50.0, 25.0, 1.0]])
    sample = Sample(noise(50, 100), 0, "wide", (0.0, 0.0, 20.0, 50.0), None, points)
    moved = fit_sample(sample, 32, "square")
    assert moved.keypoints.tolist() == [[0, 0, 0], [16, 16, 1]]
    assert moved.box is None
    partly = fit_sample(Sample(noise(50, 100), 0, "wide", (0.0, 0.0, 50.0, 50.0)), 32, "square")
    assert partly.box == (0, 0, 16, 32)


def test_the_far_edge_is_outside():
    points = torch.tensor(
        [[100.0, 25.0, 1.0], [99.9, 49.9, 1.0], [0.0, 0.0, 1.0], [50.0, 50.0, 1.0]]
    )
    moved = fit_sample(Sample(noise(50, 100), 0, "wide", keypoints=points), 32, "squash")
    assert moved.keypoints[:, 2].tolist() == [0, 1, 1, 0] and moved.keypoints[:, :2].max() < 32


def test_image_of_the_right_size_is_unchanged():
    image = noise(64, 64)
    assert torch.equal(fit_image(image, 64, "squash"), image)


def test_extreme_shapes_work():
    for height, width in ((1, 400), (400, 1), (1, 1), (3, 2)):
        for fit in FITS:
            moved = fit_sample(
                Sample(
                    noise(height, width), None, "thin", part_mask=torch.ones(height, width).byte()
                ),
                24,
                fit,
            )
            assert moved.image.shape == (3, 24, 24) and moved.part_mask.any()


def test_bad_input():
    with pytest.raises(ConfigError, match=r"fit='zoom'.*crop, squash, square, pad"):
        fit_image(noise(8, 8), 8, "zoom")
    bad = Sample(noise(8, 10), None, "b.jpg", part_mask=torch.zeros(10, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"b\.jpg: the image is 10 x 8, its part mask 8 x 10"):
        fit_sample(bad, 8, "crop")
