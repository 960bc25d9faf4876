"""Photometric changes against torchvision's functional transforms with the same numbers."""

import pytest
import torch
import torchvision.transforms.v2.functional as TF

from ssl_parts.errors import ConfigError
from ssl_parts.views.config import PhotometricConfig
from ssl_parts.views.photometric import apply_photometry, plan_photometry

OFF = {"jitter": 0.0, "blur": [0.0, 0.0], "solarise": [0.0, 0.0]}


def draw(config, n=6, view=0):
    return plan_photometry(n, view, config, torch.Generator().manual_seed(0))


def test_jitter_is_torchvisions_arithmetic():
    images = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    p = draw(PhotometricConfig(**{**OFF, "jitter": 1.0}))
    ours = apply_photometry(images, p)
    for i in range(6):
        x = TF.adjust_brightness(images[i], float(p.brightness[i]))
        x = TF.adjust_contrast(x, float(p.contrast[i]))
        x = TF.adjust_saturation(x, float(p.saturation[i]))
        x = TF.adjust_hue(x, float(p.hue[i]) / (2 * torch.pi))
        torch.testing.assert_close(ours[i], x, atol=5e-3, rtol=0)


def test_blur_is_torchvisions_gaussian_scaled_with_the_side():
    images = torch.rand(6, 3, 64, 64)
    p = draw(PhotometricConfig(**{**OFF, "blur": [1.0, 1.0], "blur_sigma": [1.0, 4.0]}))
    ours = apply_photometry(images, p)
    for i in range(6):
        expected = TF.gaussian_blur(images[i], [7, 7], [float(p.sigma[i]) * 64 / 224])
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=1e-4)


def test_solarisation_inverts_only_what_is_bright():
    images = torch.tensor([0.2, 0.49, 0.51, 0.9]).view(1, 1, 2, 2).expand(2, 3, 2, 2)
    ours = apply_photometry(images, draw(PhotometricConfig(**{**OFF, "solarise": [1.0, 1.0]}), n=2))
    torch.testing.assert_close(ours[0, 0].flatten(), torch.tensor([0.2, 0.49, 0.49, 0.1]))


def test_rows_are_changed_with_their_own_probability_and_no_other():
    images = torch.rand(200, 3, 8, 8)
    p = draw(PhotometricConfig(**{**OFF, "grey": 0.3}), n=200)
    ours = apply_photometry(images, p)
    assert 0.2 < float(p.grey.float().mean()) < 0.4
    assert torch.equal(ours[~p.grey], images[~p.grey])
    torch.testing.assert_close(
        ours[p.grey], TF.rgb_to_grayscale(images[p.grey], 3), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    "wrong", [{"jitter": 1.2}, {"blur": [0.5]}, {"hue": 0.7}, {"brightness": 2.0}]
)
def test_numbers_out_of_range_name_the_key(wrong):
    with pytest.raises(ConfigError, match=f"views.photometric.{next(iter(wrong))}"):
        PhotometricConfig(**wrong).check()
