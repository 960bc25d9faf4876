"""Background exchange against its definition, pixel by pixel."""

import pytest
import torch

from ssl_parts.errors import ConfigError
from ssl_parts.views import ViewsConfig, check_share, make_views, plan_views
from ssl_parts.views.background import choose_partners, exchange_backgrounds, remove_object


def scenes(count=8, side=28):
    """Objects of colour 1 in a random square each, before one grey value per image."""
    g = torch.Generator().manual_seed(0)
    grey = torch.linspace(0.1, 0.6, count)
    images = grey.view(-1, 1, 1, 1).expand(count, 3, side, side).clone()
    foreground = torch.zeros(count, side, side, dtype=torch.bool)
    for b in range(count):
        y, x = torch.randint(2, side - 14, (2,), generator=g).tolist()
        foreground[b, y : y + 12, x : x + 12] = True
    images[foreground.unsqueeze(1).expand_as(images)] = 1.0
    return images, foreground, grey


def test_partners_are_a_permutation_without_fixed_points_and_differ_between_views():
    one, two = choose_partners(8, 0), choose_partners(8, 1)
    assert sorted(one.tolist()) == sorted(two.tolist()) == list(range(8))
    assert not any(len({a, b, i}) < 3 for i, (a, b) in enumerate(zip(one.tolist(), two.tolist())))
    assert sorted(choose_partners(6, 1).tolist()) == list(range(6))
    assert choose_partners(4, 1).tolist() == choose_partners(8, 1)[:4].tolist()


def test_the_object_is_painted_over_with_its_own_background():
    images, foreground, grey = scenes()
    clean = remove_object(images, foreground.unsqueeze(1))
    torch.testing.assert_close(clean, grey.view(-1, 1, 1, 1).expand_as(clean), atol=1e-5, rtol=0)


@pytest.mark.parametrize("view", [0, 1])
def test_chosen_images_keep_their_object_and_get_the_partners_background(view):
    images, foreground, grey = scenes()
    chosen, images = torch.tensor([True, False] * 4), images.mul(255).round().to(torch.uint8)
    out = exchange_backgrounds(images, foreground, chosen, view)
    for b in range(8):
        expected = images[b].clone()
        if chosen[b]:
            expected[:, ~foreground[b]] = (
                (grey[choose_partners(8, view)[b]] * 255).round().to(torch.uint8)
            )
        torch.testing.assert_close(out[b], expected, atol=1, rtol=0)


def test_views_exchange_only_with_a_known_background_and_ids_stay():
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    ids = torch.zeros(8, 8, 8, dtype=torch.uint8)
    ids[:, 2:6, 2:6] = 3
    config = ViewsConfig(size=32, ids_size=8, swap_background=1.0)
    plan = plan_views(8, config, 0, 0)
    plain, swapped = (
        make_views(images, ids, plan, config, 4, background) for background in (None, 0)
    )
    assert torch.equal(plain.ids_Ngg, swapped.ids_Ngg)
    assert not torch.equal(plain.images_NCHW, swapped.images_NCHW)
    for rank in range(2):
        rows = slice(4 * rank, 4 * rank + 4)
        share = make_views(images[rows], ids[rows], plan.select_rows(rows), config, 4, 0)
        expected = swapped.images_NCHW.unflatten(0, (2, 8))[:, rows].flatten(0, 1)
        torch.testing.assert_close(share.images_NCHW, expected, atol=0, rtol=0)


def test_a_share_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ConfigError, match="a process has 6 images"):
        check_share(6, ViewsConfig(swap_background=0.5))
    check_share(6, ViewsConfig(swap_background=0.0))
