from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from evaluation.agreement import nmi_ari
from evaluation.discovered_parts import (
    box_iou,
    foreground_scores,
    judge_parts,
    keypoint_error,
    keypoint_ids,
    part_centroids,
)
from ssl_parts.data.records import Sample
from ssl_parts.errors import DataError, PartDiscoveryError
from ssl_parts.parts import PartStore, StoreInfo


class Bank:
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def sample(self, i):
        return self.samples[i]


def make_store(ids, k, background=0, scope="dataset"):
    store = PartStore(StoreInfo(len(ids), ids.shape[-1], k, background, scope))
    store.write(range(len(ids)), ids.to(torch.uint8))
    return store


def make_sample(mask=None, keypoints=None, box=(0.0, 0.0, 32.0, 32.0), size=32):
    points = None if keypoints is None else torch.tensor(keypoints, dtype=torch.float32)
    return Sample(torch.zeros(3, size, size, dtype=torch.uint8), None, "a.png", box, mask, points)


def test_nmi_and_ari_against_sklearn():
    rng = np.random.default_rng(0)
    for classes in (1, 2, 5, 40):
        a, b = rng.integers(0, 5, 300), rng.integers(0, classes, 300) + 100
        b[:100] = a[:100]
        nmi, ari = nmi_ari(a, b)
        assert nmi == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9)
        assert ari == pytest.approx(adjusted_rand_score(a, b), abs=1e-9)
    assert nmi_ari(a, (a + 3) % 5) == pytest.approx((1.0, 1.0))
    with pytest.raises(DataError, match="3 and 2"):
        nmi_ari(np.arange(3), np.arange(2))
    with pytest.raises(DataError, match="0 points"):
        nmi_ari([], [])


def test_part_id_is_read_under_the_visible_keypoint():
    ids = torch.arange(16).view(1, 4, 4)
    sample = make_sample(
        keypoints=[[3, 1, 1], [31.9, 31.9, 1], [8, 0, 1], [5, 5, 0], [40, 3, 1], [-1, 3, 1]]
    )
    pred, true = keypoint_ids(make_store(ids, 16), [sample])
    # hidden and outside ones are left out
    assert pred.tolist() == [0, 15, 1] and true.tolist() == [0, 1, 2]


def test_centroids_are_in_the_objects_box():
    ids = torch.zeros(1, 4, 4, dtype=torch.long)
    ids[0, 1:3, 2:4] = 2
    centroids = part_centroids(make_store(ids, 3), [make_sample(box=(8.0, 8.0, 24.0, 40.0))])
    assert centroids.tolist() == [[0, 0, (24 - 8) / 16, (16 - 8) / 32]]  # part 1 is absent: zeros


def moving_blobs(count, seed, noise=0.0):
    """Two parts at random places; keypoints are a fixed linear map of their centroids."""
    rng = np.random.default_rng(seed)
    ids, samples = torch.zeros(count, 32, 32, dtype=torch.long), []
    for i in range(count):
        places = rng.integers(3, 29, (2, 2))
        places[1] = (places[0] + rng.integers(6, 20, 2)) % 26 + 3
        for part, (x, y) in enumerate(places, 1):
            ids[i, y - 1 : y + 2, x - 1 : x + 2] = part
        points = [
            [*(0.5 * (places[0] + places[1]) + 0.5 + noise * rng.normal(size=2)), 1],
            [*(places[1] + 0.5), 1],
        ]
        samples.append(make_sample(keypoints=points))
    return make_store(ids, 3), samples


def test_keypoint_error_against_sklearn():
    (train, train_samples), (test, test_samples) = (
        moving_blobs(60, 0, noise=1.0),
        moving_blobs(30, 1, noise=1.0),
    )
    found = keypoint_error(train, train_samples, test, test_samples)
    x, tx = part_centroids(train, train_samples), part_centroids(test, test_samples)
    mean, spread = x.mean(0), x.std(0)
    errors = []
    for p in range(2):
        y, ty = (
            np.stack([s.keypoints[p, :2].numpy() / 32 for s in samples])
            for samples in (train_samples, test_samples)
        )
        model = LinearRegression(fit_intercept=False).fit((x - mean) / spread, y - y.mean(0))
        errors.append(np.linalg.norm(model.predict((tx - mean) / spread) + y.mean(0) - ty, axis=1))
    assert found == pytest.approx(100 * np.concatenate(errors).mean(), rel=1e-4)


def test_keypoint_error_is_small_for_parts_that_tell_and_large_for_parts_that_do_not():
    (train, train_samples), (test, test_samples) = moving_blobs(60, 0), moving_blobs(30, 1)
    # overlaps of the blobs leave a little
    assert keypoint_error(train, train_samples, test, test_samples) < 3.0
    blind = make_store(torch.ones(60, 32, 32), 3), make_store(torch.ones(30, 32, 32), 3)
    assert keypoint_error(blind[0], train_samples, blind[1], test_samples) > 20.0


def test_box_iou_by_hand():
    assert box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1.0
    assert box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0.0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0


def test_foreground_iou_and_corloc_by_hand():
    ids = torch.zeros(2, 4, 4, dtype=torch.long)
    ids[0, :2, :2] = 1
    ids[1, :, :2] = 2
    ids[1, 0, 3] = 1  # a stray piece: the box is around the largest one
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, :16, :32] = 1
    masks[1, :, :16] = 4
    samples = [make_sample(masks[0], box=(0, 0, 32, 16)), make_sample(masks[1], box=(0, 0, 16, 32))]
    scores = foreground_scores(make_store(ids, 3), samples)
    assert scores["foreground_iou"] == pytest.approx((0.5 + 8 / 9) / 2)
    assert scores["box_iou"] == pytest.approx(0.75) and scores["corloc"] == 1.0
    samples[0] = make_sample(masks[0], box=(0, 0, 32, 32))
    assert foreground_scores(make_store(ids, 3), samples)["corloc"] == 0.5
    assert foreground_scores(make_store(ids, 3, background=None), samples) == {}


def test_judge_gives_what_the_annotations_allow():
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 4, (5, 8, 8), generator=rng)
    masks = ids.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    samples = [make_sample(m, keypoints=[[5, 5, 1], [20, 9, 1]]) for m in masks]
    perfect = judge_parts(make_store(ids, 4), Bank(samples)).as_dict()
    for name in (
        "pixel_nmi",
        "pixel_ari",
        "foreground_nmi",
        "foreground_ari",
        "image_nmi",
        "foreground_iou",
    ):
        assert perfect[name] == pytest.approx(1.0)
    assert {"keypoint_nmi", "corloc"} <= set(perfect) and "keypoint_error" not in perfect
    other = torch.randint(0, 4, (5, 8, 8), generator=rng)
    scores = judge_parts(make_store(other, 4), Bank(samples), make_store(ids, 4), Bank(samples))
    wide = other.repeat_interleave(4, 1).repeat_interleave(4, 2).flatten()
    assert scores.pixel_nmi == pytest.approx(normalized_mutual_info_score(masks.flatten(), wide))
    front = masks.flatten() > 0
    assert scores.foreground_ari == pytest.approx(
        adjusted_rand_score(masks.flatten()[front], wide[front])
    )
    assert scores.keypoint_error is not None
    per_image = judge_parts(make_store(other, 4, scope="image"), Bank(samples)).as_dict()
    assert set(per_image) == {"image_nmi", "foreground_iou", "corloc", "box_iou"}
    bare = Bank([replace(s, keypoints=None, part_mask=None, box=None) for s in samples])
    assert judge_parts(make_store(other, 4), bare).as_dict() == {}
    with pytest.raises(PartDiscoveryError, match="5 images"):
        judge_parts(make_store(other, 4), Bank(samples[:3]))


def test_images_without_annotations_are_not_read():
    class Unannotated(Bank):
        read = 0

        def sample(self, i):
            self.read += 1
            return make_sample(box=None)

    bank = Unannotated([None] * 50)
    assert (
        judge_parts(make_store(torch.zeros(50, 4, 4), 2), bank).as_dict() == {} and bank.read == 1
    )
