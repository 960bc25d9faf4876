import pytest
import torch
import torch.nn.functional as F

from ssl_parts.errors import ConfigError
from ssl_parts.parts.clustering.kmeans import kmeans
from ssl_parts.parts.dense.hypercolumn import hypercolumn, projected_hypercolumn, resized_norms
from ssl_parts.parts.dense.isometry import isometric, principal_directions
from ssl_parts.parts.dense.points import hypercolumn_points


def maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 160, 7, 7), (2, 48, 13, 10), (2, 12, 20, 20))
    return {f"stage{i}": torch.randn(*shape, generator=generator) for i, shape in enumerate(shapes)}


def test_hypercolumn_by_hand():
    points = hypercolumn(maps(), 16)
    assert points.shape == (2, 256, 220)
    assert torch.allclose(points.norm(dim=2), torch.full((2, 256), 3**0.5))
    by_hand = F.interpolate(maps()["stage0"], (16, 16), mode="bilinear", align_corners=False)[
        1, :, 3, 5
    ]
    assert torch.allclose(points[1, 3 * 16 + 5, :160], by_hand / by_hand.norm(), atol=1e-6)
    raw = hypercolumn(list(maps().values()), 16, normalize=False)
    assert torch.allclose(raw[1, 3 * 16 + 5, :160], by_hand, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [6, 20, 33])
def test_isometry_keeps_every_inner_product(normalize, size):
    wide = hypercolumn(maps(), size, normalize).double()
    coordinates = [isometric(map_BDhw) for map_BDhw in maps().values()]
    narrow = hypercolumn(coordinates, size, normalize).double()
    assert narrow.shape[2] == 49 + 48 + 12 < wide.shape[2]
    scale = wide.square().sum(2).max()
    assert torch.allclose(wide @ wide.mT / scale, narrow @ narrow.mT / scale, atol=2e-6)


def test_isometry_gives_the_same_clusters():
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(4, 256, 3, 3, generator=generator)
    image = F.interpolate(base, (7, 7), mode="bilinear") + 0.2 * torch.randn(
        4, 256, 7, 7, generator=generator
    )
    wide = kmeans(hypercolumn([image], 28), 6, tolerance=0.0, iterations=300)
    narrow = kmeans(hypercolumn([isometric(image)], 28), 6, tolerance=0.0, iterations=300)
    assert torch.equal(wide.ids_BN, narrow.ids_BN)
    assert torch.allclose(wide.inertia_B, narrow.inertia_B, rtol=1e-5)


def test_isometry_of_low_rank_and_of_nothing():
    flat = torch.ones(1, 100, 3, 3) * torch.arange(1, 10.0).view(1, 1, 3, 3)
    coordinates = isometric(flat)
    assert coordinates.shape == (1, 9, 3, 3)
    assert (coordinates[:, 1:].abs() < 1e-4).all()
    assert torch.allclose(coordinates[0, 0].abs(), 10 * torch.arange(1, 10.0).view(3, 3), rtol=1e-5)
    assert (isometric(torch.zeros(1, 100, 3, 3)) == 0).all()


@pytest.mark.parametrize("size", [5, 7, 10, 20, 31])
def test_norms_of_a_resized_map_without_resizing_it(size):
    for small in maps().values():
        wide = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
        assert torch.allclose(resized_norms(small, size)[:, 0], wide.norm(dim=1), rtol=2e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_projection_commutes_with_resizing(normalize):
    basis = torch.linalg.qr(torch.randn(220, 30, generator=torch.Generator().manual_seed(1))).Q
    wide = hypercolumn(maps(), 18, normalize) @ basis
    assert torch.allclose(projected_hypercolumn(maps(), 18, basis, normalize), wide, atol=2e-5)


def test_principal_directions_are_those_of_the_variance_within_images():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([5.0, 3.0, 1.0, 0.1, 0.1])
    points = torch.randn(8, 400, 5, generator=generator) * scale
    # between images: must not count
    points = points + 100 * torch.randn(8, 1, 5, generator=generator)
    basis, share = principal_directions(points, 2)
    assert torch.allclose(basis.abs(), torch.eye(5)[:, :2], atol=0.05)
    assert share == pytest.approx(34 / 35.02, abs=0.01)
    assert principal_directions(points, 5)[0].shape == (5, 5)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="at least one map"):
        hypercolumn({}, 8)
    with pytest.raises(ConfigError, match="size"):
        hypercolumn(maps(), 0)


def implied(normalize=True, size=24):
    place = torch.rand(2, size**2, 2, generator=torch.Generator().manual_seed(4))
    points = hypercolumn_points(maps(), size, normalize, place)
    return points, torch.cat([hypercolumn(maps(), size, normalize), place], 2)


@pytest.mark.parametrize("normalize", [True, False])
def test_implied_points_are_those_of_the_hypercolumn(normalize):
    points, wide = implied(normalize)
    assert {type(block).__name__ for block in points.blocks} == {"DenseBlock", "ResizedBlock"}
    generator = torch.Generator().manual_seed(5)
    vectors, weights = (
        torch.randn(2, 5, wide.shape[2], generator=generator),
        torch.rand(2, 5, 576, generator=generator),
    )
    scale = float(wide.norm(dim=2).mean())
    assert torch.allclose(points.norms_BN, wide.square().sum(2), rtol=1e-4)
    for centred in (False, True):
        if centred:
            (points, mean), wide = (
                points.centred(weights[:, 0]),
                wide - _weighted_mean(wide, weights[:, 0]),
            )
            assert torch.allclose(
                points.norms_BN, wide.square().sum(2), rtol=1e-3, atol=1e-4 * scale**2
            )
            assert mean.shape == (2, 1, wide.shape[2])
        assert torch.allclose(points.products(vectors), vectors @ wide.mT, atol=1e-4 * scale)
        assert torch.allclose(points.sums(weights), weights @ wide, atol=1e-3 * scale)
        chosen = torch.tensor([[0, 40, 575], [23, 24, 300]])
        assert torch.allclose(
            points.at(chosen), wide[torch.arange(2)[:, None], chosen], atol=1e-5 * scale
        )
    left_out = torch.zeros(2, 576, dtype=torch.bool)
    left_out[:, 7] = True
    assert points.without(left_out).norms_BN[:, 7].tolist() == [0, 0]


def _weighted_mean(wide, weights):
    return (weights[:, None] @ wide) / weights.sum(1)[:, None, None]


def test_clusters_of_implied_points_are_those_of_wide_ones():
    points, wide = implied()
    mask = torch.rand(2, 576, generator=torch.Generator().manual_seed(6)) < 0.7
    for weights in (None, mask):
        wanted, found = (kmeans(p, 6, torch.arange(2), 300, 0.0, weights) for p in (wide, points))
        assert (wanted.ids_BN == found.ids_BN).float().mean() > 0.995
        assert torch.allclose(wanted.inertia_B, found.inertia_B, rtol=1e-3)
    alone = torch.cat(
        [kmeans(points.rows(slice(b, b + 1)), 6, b, 300, 0.0).ids_BN for b in range(2)]
    )
    assert torch.equal(alone, kmeans(points, 6, torch.arange(2), 300, 0.0).ids_BN)


def test_implied_points_of_a_map_with_many_more_channels_than_cells():
    map_BDhw = torch.randn(2, 400, 7, 7, generator=torch.Generator().manual_seed(7))
    points, wide = hypercolumn_points({"last": map_BDhw}, 24), hypercolumn([map_BDhw], 24)
    assert points.shape == (2, 576, 49)
    chosen = torch.tensor([[0, 40, 575], [23, 24, 300]])
    picked = wide[torch.arange(2)[:, None], chosen]
    assert torch.allclose(points.products(points.at(chosen)), picked @ wide.mT, atol=1e-5)
