import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.classification import MulticlassJaccardIndex

from evaluation.metrics import (
    bootstrap_interval,
    confusion_matrix,
    id_counts,
    iou_of_counts,
    iou_per_class,
    mean_iou,
    per_class_mean,
    plane_counts,
    topk_hits,
)
from evaluation.paired import paired_test
from ssl_parts.errors import ConfigError, DataError


def random_case(seed, n=400, classes=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, classes)), rng.integers(0, classes, n)


@pytest.mark.parametrize("k", [1, 3, 5, 50])
def test_topk_is_sklearns(k):
    scores, labels = random_case(k)
    expected = (
        top_k_accuracy_score(labels, scores, k=min(k, 6), labels=np.arange(7)) if k < 7 else 1.0
    )
    assert topk_hits(scores, labels, k).mean() == pytest.approx(expected)


def test_topk_gains_nothing_from_ties():
    assert topk_hits(np.zeros((5, 5)), np.arange(5), 1).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_per_class_mean_is_sklearns_balanced_accuracy():
    scores, labels = random_case(1)
    labels = np.minimum(labels, 3)  # unequal classes
    scores[:, 4:] = -9
    hits = topk_hits(scores, labels, 1)
    assert per_class_mean(hits, labels) == pytest.approx(
        balanced_accuracy_score(labels, scores.argmax(1))
    )


def test_confusion_matrix_is_sklearns():
    scores, labels = random_case(2)
    assert (
        confusion_matrix(scores.argmax(1), labels, 7) == sklearn_confusion(labels, scores.argmax(1))
    ).all()


def test_iou_is_torchmetrics():
    rng = np.random.default_rng(3)
    pred, true = rng.integers(0, 5, (6, 20, 20)), rng.integers(0, 5, (6, 20, 20))
    reference = MulticlassJaccardIndex(5, average="none")(
        torch.tensor(pred), torch.tensor(true)
    ).numpy()
    assert iou_per_class(confusion_matrix(pred, true, 5)) == pytest.approx(reference, abs=1e-6)


def test_iou_by_hand_is_of_the_data_set_not_the_mean_of_images():
    """Image 1: class 1 predicted on 1 of its 4 pixels. Image 2: class 1 on 4 of 4. Data set: 5 /
    8; image mean: 0.625; with a false positive in image 2 they differ: 5 / 9 against (1/4 + 4/5) /
    2."""
    true = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]])
    pred = np.array([[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    total = sum(confusion_matrix(p, t, 2) for p, t in zip(pred, true))
    assert iou_per_class(total)[1] == pytest.approx(5 / 9)


def test_absent_classes_are_left_out_and_background_only_on_request():
    true, pred = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    iou = iou_per_class(confusion_matrix(pred, true, 4))
    assert np.isnan(iou[2:]).all()
    assert mean_iou(iou, background=True) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_iou(iou, background=False) == pytest.approx(2 / 3)


def test_ignored_pixels_do_not_count():
    assert confusion_matrix(np.array([0, 1, 1]), np.array([0, 255, 1]), 2, ignore=255).sum() == 2


def test_ids_out_of_range_are_an_error():
    with pytest.raises(DataError, match="true ids run from 0 to 9"):
        confusion_matrix(np.zeros(2), np.array([0, 9]), 3)


def test_bootstrap_interval_is_near_the_normal_one():
    hits = np.random.default_rng(0).random(2000) < 0.7
    low, high = bootstrap_interval(hits, draws=4000)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 2000)
    assert low == pytest.approx(hits.mean() - half, abs=0.003)
    assert high == pytest.approx(hits.mean() + half, abs=0.003)
    assert bootstrap_interval(hits, draws=4000) == (low, high)


def test_paired_test_is_scipys():
    rng = np.random.default_rng(0)
    a = rng.normal(size=6)
    b = a + 0.3 + 0.2 * rng.normal(size=6)
    assert paired_test(a, b).p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_test(a, b).mean == pytest.approx((b - a).mean())


def test_paired_test_says_what_can_be_said():
    assert np.isnan(paired_test([0.5], [0.6]).p) and not paired_test([0.5], [0.6]).beyond_spread
    assert paired_test([0.5, 0.6, 0.7], [0.6, 0.71, 0.79]).beyond_spread
    assert not paired_test([0.5, 0.6, 0.7], [0.7, 0.5, 0.72]).beyond_spread
    assert paired_test([0.5, 0.5], [0.75, 0.75]).p_text == "p<0.001"
    with pytest.raises(ConfigError, match="same seeds"):
        paired_test([0.1, 0.2], [0.1])


def test_counts_are_the_confusion_matrix_in_short():
    rng = np.random.default_rng(5)
    pred, true = rng.integers(0, 4, (2, 3, 8, 8))
    counts = sum(id_counts(p, t, 4) for p, t in zip(pred, true))
    assert iou_of_counts(counts) == pytest.approx(iou_per_class(confusion_matrix(pred, true, 4)))


def test_overlapping_parts_by_hand():
    """One row of five pixels, two parts; truth 0: 11000, 1: 01100; predicted 0: 10000, 1: 00110."""
    true = np.array([[[[1, 1, 0, 0, 0]], [[0, 1, 1, 0, 0]]]])
    pred = np.array([[[[1, 0, 0, 0, 0]], [[0, 0, 1, 1, 0]]]])
    background, first, second = iou_of_counts(plane_counts(pred, true))
    assert (first, second) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert background == pytest.approx(1 / 3)  # predicted at pixels 1 and 4, true at 3 and 4
