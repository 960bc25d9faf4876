from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from parts_stand_ins import DiscBank

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts import (
    BoxConfig,
    ComponentConfig,
    MaskConfig,
    NoForegroundConfig,
    PerImageConfig,
    VotesConfig,
    discover_parts,
)
from ssl_parts.parts.foreground.annotated import box_mask, given_mask
from ssl_parts.parts.foreground.scores import away_from_border, smooth, to_mask
from ssl_parts.parts.foreground.votes import centred_prior, fit_votes


def iou(store, bank):
    front = (
        F.interpolate(store.batch(range(len(bank)))[:, None].float(), size=(bank.size, bank.size))[
            :, 0
        ]
        > 0
    )
    true = bank.masks > 0
    return ((front & true).sum((1, 2)) / (front | true).sum((1, 2))).mean().item()


SCORED = {"smoothing": 0.02, "stages": ["middle"]}
LEAST = {
    "votes": (VotesConfig(**SCORED), 0.55),
    "component": (ComponentConfig(**SCORED), 0.75),
    "box": (BoxConfig(), 0.7),
    "mask": (MaskConfig(), 0.9),
}


@pytest.mark.parametrize("method", LEAST)
def test_each_method_finds_the_disc(method, tiny_encoder):
    foreground, least = LEAST[method]
    bank = DiscBank(halves=False)
    store = discover_parts(tiny_encoder, bank, PerImageConfig(k=2, size=16, foreground=foreground))
    assert iou(store, bank) > least


def test_none_has_no_background(tiny_encoder, disc_bank):
    config = PerImageConfig(k=3, size=8)
    votes = discover_parts(tiny_encoder, disc_bank, config)
    none = discover_parts(tiny_encoder, disc_bank, replace(config, foreground=NoForegroundConfig()))
    assert (votes.background, votes.k) == (0, 4)
    assert (none.background, none.k) == (None, 3)


def test_given_annotations_must_be_there(tiny_encoder):
    class Bare(DiscBank):
        def sample(self, i):
            return replace(super().sample(i), box=None, part_mask=None)

    class Unknown(DiscBank):
        sample = property()

    for foreground, what in ((BoxConfig(), "no box"), (MaskConfig(), "no part mask")):
        config = PerImageConfig(k=2, size=8, foreground=foreground)
        with pytest.raises(PartDiscoveryError, match=f"disc_0.png has {what}"):
            discover_parts(tiny_encoder, Bare(), config)
        with pytest.raises(PartDiscoveryError, match="need a data set with annotations"):
            discover_parts(tiny_encoder, Unknown(), config)


def test_sign_puts_the_frame_outside():
    scores = -torch.ones(1, 36)
    scores.view(6, 6)[2:4, 2:4] = 1.0
    assert torch.equal(away_from_border(scores), scores)
    assert torch.equal(away_from_border(-scores), scores)


def test_votes_follow_the_look_when_it_tells_and_the_place_when_it_does_not():
    generator = torch.Generator().manual_seed(0)
    size, images = 8, 60
    cells = torch.arange(64).repeat(images, 1)
    inside = torch.rand(images, 64, generator=generator) < centred_prior(size).flatten()
    told = torch.where(inside[..., None], torch.tensor([1.0, 0]), torch.tensor([0.0, 1]))
    told = told + 0.02 * torch.randn(images, 64, 2, generator=generator)
    model = fit_votes(told, cells, size, [4, 8], seed=0)
    found = model.scores((told - model.mean_D) @ model.basis_Dd, position=0.5) > 0
    assert (found == inside).float().mean() > 0.99
    noise = torch.randn(images, 64, 2, generator=generator)
    model = fit_votes(noise, cells, size, [4, 8], seed=0)
    found = model.scores((noise - model.mean_D) @ model.basis_Dd, position=0.5) > 0
    by_place = (centred_prior(size).flatten() > 0.5).expand_as(found)
    assert (found == by_place).float().mean() > 0.9


def test_smoothing_respects_edges():
    look = torch.zeros(8, 8, 2)
    look[:, :4, 0], look[:, 4:, 1] = 1.0, 1.0
    scores = torch.where(look[..., 0] > 0, 1.0, -1.0)
    scores[3, 1] = -1.0  # a hole far from the edge
    smoothed = smooth(scores.view(1, 64), look.view(1, 64, 2), reach=0.2).view(8, 8)
    assert smoothed[3, 1] > 0.5
    assert (smoothed[:, :4] > 0).all() and (smoothed[:, 4:] < 0).all()
    assert torch.equal(
        smooth(scores.view(1, 64), look.view(1, 64, 2), reach=0.0), scores.view(1, 64)
    )


def test_mask_has_a_least_share():
    scores = -torch.ones(1, 16)
    scores[0, 5] = -0.5
    assert to_mask(scores, 4, 0.05).sum() == 1 and bool(to_mask(scores, 4, 0.05)[0, 5])
    assert to_mask(scores, 8, 0.1).sum() >= 7
    assert torch.equal(to_mask(-scores, 4, 0.05), torch.ones(1, 16, dtype=torch.bool))


def test_box_and_given_masks_by_hand():
    assert torch.equal(
        box_mask([(2, 0, 4, 8)], 8, 4).view(4, 4), torch.tensor([[0, 1, 0, 0]] * 4).bool()
    )
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[:3, :4] = 3
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, :2] = True  # the second row is half covered
    assert torch.equal(given_mask([mask], 4).view(4, 4), expected)
    assert torch.equal(
        given_mask([torch.stack([mask, torch.zeros_like(mask)])], 4).view(4, 4), expected
    )
