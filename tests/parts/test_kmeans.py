import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.clustering.kmeans import kmeans, polish
from ssl_parts.parts.dense.points import dense_points
from ssl_parts.parts.dense.sampling import uniforms


def blobs(images=6, points=300, channels=12, centres=9, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(images, centres, channels, generator=generator)
    which = torch.randint(0, centres, (images, points), generator=generator)
    noise = torch.randn(images, points, channels, generator=generator)
    return middle[torch.arange(images)[:, None], which] + spread * noise + 5.0


def sklearn_inertia(points, k, seed):
    return KMeans(k, n_init=1, random_state=seed, max_iter=300, tol=0).fit(points.numpy()).inertia_


def test_starts_are_as_good_as_sklearns():
    points = blobs(images=12).repeat(5, 1, 1)  # five seeds an image: one start says little
    found = kmeans(points, 7, seed=torch.arange(60), iterations=300, tolerance=0.0)
    theirs = np.mean([sklearn_inertia(image, 7, b) for b, image in enumerate(points)])
    assert found.inertia_B.mean().item() == pytest.approx(theirs, rel=0.03)


def test_inertia_is_that_of_the_ids_and_centroids():
    points = blobs(images=20)
    found = kmeans(points, 7, seed=torch.arange(20))
    own = (
        (points - found.centroids_BKD[torch.arange(20)[:, None], found.ids_BN])
        .double()
        .square()
        .sum((1, 2))
    )
    assert torch.allclose(own, found.inertia_B, rtol=1e-5)


def test_lloyd_from_the_same_start_is_sklearn_exactly():
    points = blobs(images=1, points=500)
    found = kmeans(points, 5, iterations=200, tolerance=0.0)
    theirs = KMeans(5, init=found.centroids_BKD[0].numpy(), n_init=1, max_iter=200, tol=0).fit(
        points[0].numpy()
    )
    # a fixed point of ours is one of theirs
    assert adjusted_rand_score(theirs.labels_, found.ids_BN[0]) == 1.0
    assert found.inertia_B[0].item() == pytest.approx(theirs.inertia_, rel=1e-5)


def test_result_does_not_depend_on_the_batch():
    points, seeds = blobs(images=37, points=64, channels=5), torch.arange(37)
    together = kmeans(points, 6, seed=seeds)
    for size in (1, 5, 16):
        ids = [
            kmeans(points[at : at + size], 6, seed=seeds[at : at + size]).ids_BN
            for at in range(0, 37, size)
        ]
        assert torch.equal(torch.cat(ids), together.ids_BN)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    assert torch.equal(kmeans(points[order], 6, seed=seeds[order]).ids_BN, together.ids_BN[order])


def test_seed_matters_and_global_state_does_not():
    points = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = kmeans(points, 12, seed=1).ids_BN
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(kmeans(points, 12, seed=1).ids_BN, first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(kmeans(points, 12, seed=2).ids_BN, first)


def test_no_empty_cluster_whatever_the_data():
    generator = torch.Generator().manual_seed(0)
    for trial in range(30):
        points = torch.randn(3, 40, 2, generator=generator).round() + 1e-3 * torch.randn(
            3, 40, 2, generator=generator
        )
        found = kmeans(points, 25, seed=trial)
        assert (found.k_B == 25).all()
        for b in range(3):
            assert torch.equal(found.ids_BN[b].unique(), torch.arange(25))


def test_copies_give_fewer_clusters_and_say_so():
    points = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 1], [2, 2]]).repeat(1, 1)[None]
    found = kmeans(points, 5, seed=3)
    assert found.k_B.tolist() == [3]
    assert torch.equal(found.ids_BN[0].unique(), torch.arange(3))
    assert found.inertia_B[0] < 1e-9
    assert (found.centroids_BKD[0, 3:] == 0).all()


def test_points_outside_the_mask_change_nothing():
    points = blobs(images=4, points=120)
    mask = torch.rand(4, 120, generator=torch.Generator().manual_seed(0)) < 0.6
    spoiled = torch.where(mask[..., None], points, torch.full_like(points, float("nan")))
    found = kmeans(spoiled, 5, weights_BN=mask)
    assert torch.equal(found.ids_BN == -1, ~mask)
    assert torch.equal(
        found.ids_BN, kmeans(torch.where(mask[..., None], points, 1e4), 5, weights_BN=mask).ids_BN
    )
    b = 2
    alone = kmeans(points[b, mask[b]][None], 5)
    assert alone.inertia_B[0].item() == pytest.approx(found.inertia_B[b].item(), rel=0.1)


def test_whole_weights_are_repeated_points():
    points = blobs(images=1, points=50)
    weights = torch.randint(1, 4, (1, 50), generator=torch.Generator().manual_seed(0))
    found = kmeans(points, 4, weights_BN=weights.float(), tolerance=0.0)
    repeated = points[0].repeat_interleave(weights[0], 0).numpy()
    theirs = KMeans(4, init=found.centroids_BKD[0].numpy(), n_init=1, tol=0).fit(repeated)
    assert theirs.inertia_ == pytest.approx(found.inertia_B[0].item(), rel=1e-5)


def test_large_offset_costs_no_precision():
    points = blobs(images=1, points=400, spread=0.01)
    near, far = kmeans(points, 9), kmeans(points + 1000.0, 9)
    assert far.inertia_B[0].item() == pytest.approx(near.inertia_B[0].item(), rel=0.05)


def test_half_precision_and_autocast_are_computed_in_float32():
    points = blobs(images=2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kmeans(points, 5)
    assert found.centroids_BKD.dtype == torch.float32
    assert torch.equal(found.ids_BN, kmeans(points.float(), 5).ids_BN)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_features_name_the_image(bad):
    points = blobs(images=3, points=20)
    points[1, 7, 2] = bad
    with pytest.raises(PartDiscoveryError, match=r"b\.jpg"):
        kmeans(points, 3, names=["a.jpg", "b.jpg", "c.jpg"])


def test_too_few_points_name_the_image_and_the_numbers():
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, 4:] = False
    with pytest.raises(PartDiscoveryError, match=r"k=5 but b\.jpg has 4 points"):
        kmeans(blobs(images=2, points=30), 5, weights_BN=mask, names=["a.jpg", "b.jpg"])
    with pytest.raises(PartDiscoveryError, match="k >= 1"):
        kmeans(blobs(), 0)


def test_uniforms_are_uniform_and_independent_of_the_company():
    draws = uniforms(torch.arange(500), 40)
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01 and abs(draws.var() - 1 / 12) < 0.002
    assert abs(np.corrcoef(draws[:-1].flatten(), draws[1:].flatten())[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:, :-1].flatten(), draws[:, 1:].flatten())[0, 1]) < 0.03
    assert torch.equal(uniforms(torch.tensor([17]), 40)[0], draws[17])


@pytest.mark.parametrize("masked", [False, True])
def test_polishing_is_lloyd_in_the_full_space(masked):
    points = blobs(images=5, channels=20)
    mask = (
        torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) < 0.8
        if masked
        else torch.ones(5, 300) > 0
    )
    rough = kmeans(points[..., :2], 7, weights_BN=mask)
    found = polish(dense_points(points), rough.ids_BN, 7, 3, mask)
    for b in range(5):
        own, ids = points[b, mask[b]], rough.ids_BN[b, mask[b]]
        start = torch.stack([own[ids == i].mean(0) for i in range(7)])
        theirs = KMeans(7, init=start.numpy(), n_init=1, max_iter=3, tol=0).fit(own.numpy())
        assert adjusted_rand_score(theirs.labels_, found.ids_BN[b, mask[b]]) == 1.0
        assert found.inertia_B[b].item() == pytest.approx(theirs.inertia_, rel=1e-4)
    one = polish(dense_points(points[3:4]), rough.ids_BN[3:4], 7, 3, mask[3:4])
    assert torch.equal(one.ids_BN, found.ids_BN[3:4])
