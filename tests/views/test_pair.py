"""Two views are a pure function of (seed, step), whoever computes which share."""

import torch

from ssl_parts.views import ViewPlan, ViewsConfig, make_views, plan_views
from ssl_parts.views.geometry import sample_ids

CONFIG = ViewsConfig(size=32, ids_size=16)


def test_a_rank_sees_its_share_of_the_global_batch():
    images = torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8)
    ids = torch.randint(9, (6, 20, 20), dtype=torch.uint8)
    plan = plan_views(6, CONFIG, seed=3, step=17)
    whole = make_views(images, ids, plan, CONFIG, k=9)
    share = make_views(
        images[3:],
        ids[3:],
        plan_views(6, CONFIG, seed=3, step=17).select_rows(slice(3, 6)),
        CONFIG,
        k=9,
    )
    rows = [3, 4, 5, 9, 10, 11]
    torch.testing.assert_close(share.images_NCHW, whole.images_NCHW[rows])
    assert torch.equal(share.ids_Ngg, whole.ids_Ngg[rows])
    assert torch.equal(share.priority_NK, whole.priority_NK[rows])


def test_other_steps_and_seeds_give_other_views():
    thetas = [
        plan_views(4, CONFIG, seed, step).theta_N23 for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    assert not any(torch.equal(a, b) for a, b in ((thetas[0], thetas[1]), (thetas[0], thetas[2])))


def test_ids_follow_the_images_geometry():
    picture = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    picture[:, :, 20:44, 10:30] = 255
    ids = (picture[:, 0] > 0).to(torch.uint8)
    config = ViewsConfig(size=32, ids_size=32)
    config.photometric.jitter, config.photometric.blur, config.photometric.solarise = (
        0.0,
        [0.0, 0.0],
        [0.0, 0.0],
    )
    views = make_views(picture, ids, plan_views(1, config, 0, 5), config, k=2)
    agree = ((views.images_NCHW[:, 0] > 0.5).long() == views.ids_Ngg).float().mean()
    assert float(agree) > 0.97
    assert torch.equal(views.ids_Ngg[:1], sample_ids(ids, views.theta_N23[:1], 32))


def test_a_plan_holds_any_number_of_views_of_one_size():
    """More crops per image: a third view with the crops and colours of the first is the first."""
    images = torch.randint(256, (4, 3, 40, 40), dtype=torch.uint8)
    ids = torch.randint(3, (4, 10, 10), dtype=torch.uint8)
    config = ViewsConfig(size=32, ids_size=16, swap_background=0.5)
    pair = plan_views(4, config, seed=0, step=0)
    theta = torch.cat([pair.theta_N23, pair.theta_N23[:4]])
    photometry, swapped = (
        (views[0], views[1], views[0]) for views in (pair.photometry, pair.swapped)
    )
    three = ViewPlan(theta, photometry, swapped, pair.uniform_BK)
    found, two = (make_views(images, ids, plan, config, 3, 0) for plan in (three, pair))
    for name in ("images_NCHW", "ids_Ngg", "priority_NK"):
        one, other, again = getattr(found, name).chunk(3)
        assert torch.equal(torch.cat([one, other]), getattr(two, name))
        assert torch.equal(one, again)
    some = three.select_rows(slice(1, 3))
    assert torch.equal(some.theta_N23[4:], pair.theta_N23[1:3]) and len(some.swapped[2]) == 2
