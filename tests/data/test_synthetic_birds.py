"""SyntheticBirds as a data set: determinism, labels, annotations against the drawn pixels,
refusals.
"""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssl_parts.data.records import PartsDataset, Sample
from ssl_parts.data.sets.birds import render
from ssl_parts.data.sets.synthetic_birds import SyntheticBirds, species_traits
from ssl_parts.errors import DataError


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    birds = SyntheticBirds("train", images=80, size=96)
    return [birds[i] for i in range(80)]


def same(a: Sample, b: Sample) -> bool:
    tensors = all(
        torch.equal(getattr(a, k), getattr(b, k)) for k in ("image", "part_mask", "keypoints")
    )
    return tensors and (a.label, a.path, a.box) == (b.label, b.path, b.box)


def test_is_a_parts_dataset_with_samples_as_declared(samples):
    birds = SyntheticBirds("test", images=3, size=57)
    assert isinstance(birds, PartsDataset) and len(birds) == 3
    sample = birds[2]
    assert sample.image.dtype == torch.uint8 and sample.image.shape == (3, 57, 57)
    assert sample.part_mask.dtype == torch.uint8 and sample.part_mask.shape == (57, 57)
    assert sample.keypoints.dtype == torch.float32 and sample.keypoints.shape == (
        len(birds.keypoint_names),
        3,
    )
    assert same(birds[-1], sample)
    assert len(birds.classes) == 40 and len(birds.part_names) >= 6
    assert {int(p) for s in samples for p in s.part_mask.unique()} == set(
        range(len(birds.part_names) + 1)
    )
    with pytest.raises(IndexError, match="3 images"):
        birds[3]


def test_an_image_depends_on_seed_split_and_index_alone():
    few, many = SyntheticBirds("train", images=5), SyntheticBirds("train", images=200)
    for i in (4, 0, 2):
        assert same(few[i], many[i])
    np.random.seed(3)
    torch.manual_seed(3)
    assert same(few[1], SyntheticBirds("train", images=7)[1])


def test_an_image_is_the_same_in_another_process():
    code = (
        "from ssl_parts.data.sets.synthetic_birds import SyntheticBirds as B; import hashlib as h; "
    )
    code += "print(h.sha256(B('val', images=9)[7].image.numpy().tobytes()).hexdigest())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert (
        hashlib.sha256(SyntheticBirds("val", images=9)[7].image.numpy().tobytes()).hexdigest()
        == other
    )


def test_no_image_is_shared_by_splits_or_seeds():
    sets = [
        SyntheticBirds(split, images=40, seed=seed)
        for split in ("train", "val", "test")
        for seed in (0, 1)
    ]
    seen = {birds[i].image.numpy().tobytes() for birds in sets for i in range(40)}
    assert len(seen) == len(sets) * 40
    paths = [path for birds in sets for path in birds.paths]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("images, species", [(400, 40), (50, 40), (37, 8)])
def test_labels_are_balanced_shuffled_and_those_of_the_samples(images, species):
    birds = SyntheticBirds("train", images=images, species=species)
    counts = np.bincount(birds.labels, minlength=species)
    assert birds.labels.dtype == np.int64 and counts.max() - counts.min() <= 1
    assert not np.array_equal(birds.labels, np.arange(images) % species)
    assert [birds[i].label for i in range(5)] == birds.labels[:5].tolist()


def test_one_scene_at_every_size():
    small = SyntheticBirds("train", images=12, size=64)
    large = SyntheticBirds("train", images=12, size=256)
    for i in range(12):
        a, b = small[i], large[i]
        shrunk = torch.nn.functional.avg_pool2d(b.image.float(), 4)
        assert (a.image.float() - shrunk).abs().mean() < 8
        assert (a.part_mask != b.part_mask[2::4, 2::4]).float().mean() < 0.03
        assert torch.allclose(a.keypoints[:, :2] * 4, b.keypoints[:, :2], atol=1e-3)


def test_the_box_is_the_extent_of_the_mask(samples):
    for sample in samples:
        rows, columns = np.nonzero(sample.part_mask.numpy())
        assert sample.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert 0.35 < max(sample.box[2] - sample.box[0], sample.box[3] - sample.box[1]) / 96 <= 1


def test_visible_keypoints_lie_in_their_part_and_hidden_ones_do_not(samples):
    birds = SyntheticBirds("train", images=1)
    part_of = {"eye": "head", "crown": "head", "nape": "head", "leg": "legs"}
    ids = [birds.part_names.index(part_of.get(name, name)) + 1 for name in birds.keypoint_names]
    shown = np.zeros(len(ids))
    for sample in samples:
        for k, (x, y, visible) in enumerate(sample.keypoints.tolist()):
            inside = 0 <= x < 96 and 0 <= y < 96
            assert bool(visible) == (inside and int(sample.part_mask[int(y), int(x)]) == ids[k])
            shown[k] += visible
    # a place that misses its part would never be visible
    assert (shown / len(samples) > 0.45).all()


def test_keypoints_follow_the_pose(samples):
    """Independent of the drawing's own geometry: the eye is the ring round a dark pupil, so it is
    dark in the image.
    """
    names = SyntheticBirds("train", images=1).keypoint_names
    darker = []
    for sample in samples:
        x, y, visible = sample.keypoints[names.index("eye")].tolist()
        if visible:
            grey = sample.image.float().mean(0)
            x, y = int(x), int(y)
            darker.append(
                grey[y, x] < grey[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].quantile(0.5)
            )
    assert len(darker) > 40 and np.mean(darker) > 0.85


def test_a_bird_is_one_blob(samples):
    """Closing the gaps that twigs leave joins the mask into one large component."""
    for sample in samples:
        closed = ndimage.binary_closing(np.pad(sample.part_mask.numpy() > 0, 12), iterations=9)
        parts, n = ndimage.label(closed)
        sizes = ndimage.sum(closed, parts, range(1, n + 1))
        assert sizes.max() > 0.8 * closed.sum()


def test_twigs_hide_parts_in_the_mask_too(samples, monkeypatch):
    monkeypatch.setattr(
        render, "occluders", lambda rng, box: render.Shapes([], np.zeros((0, 3), np.float32))
    )
    birds, hidden = SyntheticBirds("train", images=80, size=96), []
    for i in range(0, 80, 2):
        bare, mask = birds.draw(i).mask, samples[i].part_mask.numpy()
        assert (mask[mask != bare] == 0).all()
        hidden.append((mask != bare).sum() / (bare > 0).sum())
    assert (
        0.2 < np.mean(np.array(hidden) > 0) < 0.9 and max(hidden) < 0.6 and np.mean(hidden) > 0.02
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "training"}, "no split 'training'; choose one of train, val, test"),
        ({"images": 0}, "images=0"),
        ({"images": 2.5}, r"images=2\.5"),
        ({"size": 47}, "size=47 pixels; give a whole number from 48 to 512"),
        ({"size": 513}, "size=513"),
        ({"seed": -1}, "seed=-1"),
        ({"species": 6}, "species=6; give a multiple of 4 from 4 to 40"),
        ({"species": 44}, "species=44"),
        ({"species": 0}, "species=0"),
    ],
)
def test_a_mistake_is_one_clear_error(arguments, message):
    with pytest.raises(DataError, match=message):
        SyntheticBirds(**({"split": "train", "images": 4} | arguments))


def test_traits_name_each_class_and_what_tells_it_apart():
    rows = species_traits()
    assert [row["class"] for row in rows] == SyntheticBirds("train", images=1).classes
    assert len({row["class"] for row in rows}) == 40 and len({row["genus"] for row in rows}) == 10
    parts = ("crown", "beak", "breast", "wing", "tail")
    for first in range(0, 40, 4):
        genus = rows[first : first + 4]
        differ = {part for part in parts if len({row[part] for row in genus}) > 1}
        assert differ == set(genus[0]["varies"].split(" and ")) and len(differ) == 2
        assert len({tuple(row[part] for part in parts) for row in genus}) == 4
    assert len({row["varies"] for row in rows}) == 10
