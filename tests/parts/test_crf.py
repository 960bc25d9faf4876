from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_parts.parts.refinement.config import CrfConfig
from ssl_parts.parts.refinement.crf import label_costs, mean_field, pair_kernel

SOFT = CrfConfig(near=1.0, near_weight=3.0, reach=4.0, colour=13.0, colour_weight=5.0)


def picture(size=24, seed=0):
    """Two areas of different colour, and costs that see them only vaguely."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.zeros(size, size, dtype=torch.long)
    true[size // 4 : 3 * size // 4, size // 3 :] = 1
    true[: size // 3, : size // 4] = 2
    colours = torch.tensor([[120.0, 130, 110], [200, 60, 50], [40, 70, 190]])
    pixels = (
        (colours[true] + 6 * torch.randn(size, size, 3, generator=generator))
        .clamp(0, 255)
        .permute(2, 0, 1)
    )
    costs = 1.2 * torch.rand(3, size, size, generator=generator)
    costs.scatter_add_(0, true[None], -0.5 * torch.ones(1, size, size))
    return true, pixels.round(), costs


def by_hand(costs, pixels, config):
    """Mean field with sums over all pairs written out, in float64."""
    labels, size = costs.shape[0], costs.shape[1]
    y, x = np.mgrid[:size, :size]
    places = np.stack([x.ravel(), y.ravel()], 1).astype(float)
    colours = pixels.reshape(3, -1).T.numpy().astype(float)
    between = ((places[:, None] - places) ** 2).sum(2)
    alike = ((colours[:, None] - colours) ** 2).sum(2)
    kernel = np.zeros_like(between)
    for weight, exponent in (
        (config.near_weight, between / config.near**2),
        (config.colour_weight, between / config.reach**2 + alike / config.colour**2),
    ):
        k = np.exp(-0.5 * exponent)
        kernel += weight * k / np.sqrt(k.sum(1)[:, None] * k.sum(0))
    unary = costs.reshape(labels, -1).numpy().astype(float)
    belief = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(config.iterations):
        logits = belief @ kernel - unary
        belief = np.exp(logits) / np.exp(logits).sum(0)
    return belief.reshape(costs.shape)


def test_mean_field_is_the_sum_over_all_pairs():
    _, pixels, costs = picture(12)
    config = replace(SOFT, iterations=5)
    found = mean_field(costs[None], pixels[None], config)[0]
    assert np.allclose(found.numpy(), by_hand(costs, pixels, config), atol=1e-4)


def test_agrees_with_pydensecrf():
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="needs pydensecrf2")
    _, pixels, costs = picture(32)
    config = CrfConfig(
        iterations=10, near=3.0, near_weight=3.0, reach=5.0, colour=13.0, colour_weight=5.0
    )
    size = pixels.shape[-1]
    theirs = densecrf.DenseCRF2D(size, size, 3)
    theirs.setUnaryEnergy(np.ascontiguousarray(costs.reshape(3, -1).numpy()))
    theirs.addPairwiseGaussian(sxy=3, compat=3)
    rgb = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8))
    theirs.addPairwiseBilateral(sxy=5, srgb=13, rgbim=rgb, compat=5)
    expected = np.array(theirs.inference(10)).reshape(3, size, size)
    found = mean_field(costs[None], pixels[None], config)[0].numpy()
    # theirs approximates the kernels on a lattice
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.98
    assert np.abs(found - expected).mean() < 0.05


def test_colour_edges_clean_up_noisy_costs():
    true, pixels, costs = picture()
    before = (costs.argmin(0) == true).float().mean()
    found = mean_field(costs[None], pixels[None], SOFT)[0].argmax(0)
    after = (found == true).float().mean()
    assert before < 0.85 and after > 0.97


def test_images_do_not_touch_each_other_and_zero_iterations_are_a_softmax():
    pictures = [picture(seed=s) for s in range(3)]
    costs, pixels = torch.stack([p[2] for p in pictures]), torch.stack([p[1] for p in pictures])
    few, none = replace(SOFT, iterations=3), replace(SOFT, iterations=0)
    together = mean_field(costs, pixels, few)
    assert torch.equal(together[1], mean_field(costs[1:2], pixels[1:2], few)[0])
    assert torch.allclose(mean_field(costs, pixels, none), torch.softmax(-costs, 1))


def test_kernel_is_symmetric_and_normalised():
    kernel = pair_kernel(picture(10)[1], replace(SOFT, near_weight=0.0, colour_weight=1.0))
    assert torch.allclose(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel.double())[-1].item() == pytest.approx(1.0, abs=1e-5)


def test_label_costs_by_hand():
    costs = label_costs(torch.tensor([[[0, 2]]]), 3, 0.7)
    assert torch.allclose(
        (-costs).exp()[0, :, 0].T, torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.15, 0.7]])
    )
