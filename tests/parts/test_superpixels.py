"""SLIC and Felzenszwalb masks against scikit-image itself, a search for the nearest cell, and the
drawn discs.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from parts_stand_ins import DiscBank
from skimage import segmentation
from sklearn.metrics import adjusted_rand_score

from ssl_parts.parts import FelzenszwalbConfig, MaskConfig, SlicConfig, discover_parts
from ssl_parts.parts.methods.superpixels import at_centres, largest

CONFIGS = {
    "slic": SlicConfig(k=20, size=32),
    "felzenszwalb": FelzenszwalbConfig(k=20, size=32),
}


def ids_of(config, bank, encoder=None, **more):
    store = discover_parts(encoder, bank, config, **more)
    return store.batch(range(len(store)))


@pytest.mark.parametrize("method", CONFIGS)
def test_ids_are_scikit_images_segments_by_falling_size(method):
    bank = DiscBank(3)
    theirs = {
        "slic": lambda x: segmentation.slic(x, 20, 10.0, sigma=0.8, start_label=0),
        "felzenszwalb": lambda x: segmentation.felzenszwalb(x, 500.0, 0.8, 20),
    }[method]
    for ids, pixels in zip(ids_of(CONFIGS[method], bank).numpy(), bank.pixels, strict=True):
        labels = theirs(pixels.permute(1, 2, 0).numpy())
        # SLIC may give 21
        kept = np.isin(labels, np.argsort(-np.bincount(labels.ravel()), kind="stable")[:20])
        assert kept.mean() > 0.9 and adjusted_rand_score(labels[kept], ids[kept]) == 1.0
        sizes = np.bincount(ids[kept])
        assert len(sizes) > 1 and (sizes > 0).all() and (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("method", CONFIGS)
def test_discs_are_told_from_the_noise_around_them(method):
    """Nearly every segment lies in the disc's left half, in its right half, or outside."""
    bank = DiscBank(8)
    ids = ids_of(replace(CONFIGS[method], k=40), bank)
    pure = 0
    for ids_SS, mask_SS in zip(ids, bank.masks, strict=True):
        for segment in ids_SS.unique():
            pure += int(torch.bincount(mask_SS[ids_SS == segment].long()).max())
    assert pure / ids.numel() > (0.9 if method == "slic" else 0.95)


@pytest.mark.parametrize("method", CONFIGS)
def test_ids_do_not_depend_on_batch_or_processes_and_foreground_goes_first(
    method, tiny_encoder, disc_bank, tmp_path
):
    config = replace(CONFIGS[method], size=16)
    expected = ids_of(config, disc_bank)
    assert torch.equal(ids_of(replace(config, batch=3), disc_bank), expected)
    for rank in (1, 0):
        found = discover_parts(None, disc_bank, config, tmp_path / "ranks", rank=rank, world_size=2)
    assert torch.equal(found.batch(range(len(found))), expected) and found.background is None
    with_object = replace(config, foreground=MaskConfig())
    store = discover_parts(tiny_encoder, disc_bank, with_object)
    ids, inside = store.batch(range(len(store))), disc_bank.masks[:, ::2, ::2] > 0
    assert store.background == 0 and ((ids > 0) == inside).float().mean() > 0.9
    assert tiny_encoder.calls == []


def test_cells_of_small_segments_take_the_nearest_kept_cell():
    g = np.random.default_rng(0)
    labels, inside = g.integers(0, 9, (12, 12)), g.random((12, 12)) > 0.3
    for mask in (None, inside):
        ids = largest(labels, 3, mask)
        counted = labels if mask is None else labels[mask]
        kept = sorted(range(9), key=lambda label: -(counted == label).sum())[:3]
        places = [(r, c) for r in range(12) for c in range(12) if mask is None or mask[r, c]]
        for r, c in places:
            owners = [(y, x) for y, x in places if labels[y, x] in kept]
            distance = min((y - r) ** 2 + (x - c) ** 2 for y, x in owners)
            nearest = {
                kept.index(labels[y, x])
                for y, x in owners
                if (y - r) ** 2 + (x - c) ** 2 == distance
            }
            assert ids[r, c] in nearest
        assert (ids[~inside] == -1).all() or mask is None


def test_cells_read_the_pixel_under_their_centre():
    labels = np.arange(36).reshape(6, 6)
    assert at_centres(labels, 6).tolist() == labels.tolist()
    assert at_centres(labels, 2).tolist() == [[7, 10], [25, 28]]
