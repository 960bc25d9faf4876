"""What can be measured is settled before training, and what is left out is said by name."""

import numpy as np
import pytest
import torch

from evaluation.masks import cell_shares
from evaluation.metrics import id_counts
from evaluation.part_segmentation import fit_decoder
from evaluation.plan import is_annotated, plan_suite
from evaluation.preflight import check_masks, look_ahead
from evaluation.segmenter import segmentation_loss
from evaluation.splits import few_label_indices
from evaluation.suite import Banks, EvaluationConfig, evaluate_encoder
from ssl_parts.data import DataConfig
from ssl_parts.data.records import IGNORE, without_ignored
from ssl_parts.errors import DataError

SMALL = EvaluationConfig(shots=2, draws=2, part_shots=6, part_draws=2, part_grid=8, batch=16)


def test_whole_sets_are_used_whole(squares):
    plan = plan_suite(squares(images=24), squares(images=12, split="test"), True, 5, 6)
    assert plan.linear and plan.part_shots == 6 and plan.said == ()
    assert len(plan.train_rows) == 24 and len(plan.test_rows) == 12


def test_test_images_of_unknown_classes_and_without_labels_are_left_out(squares):
    train = squares(labels=[0, 0, 1, 1, 2, -1], images=6)
    test = squares(labels=[0, 3, 1, 3, -1], images=5, split="test")
    plan = plan_suite(train, test, True, 2, 0)
    assert plan.test_rows.tolist() == [0, 2] and plan.train_rows.tolist() == [0, 1, 2, 3, 4]
    said = "\n".join(plan.said)
    for words in (
        "1 training image without a label left out",
        "2 test images left out, of classes without a training image: class 3",
        "1 test image of 5 without a label",
        "evaluation.shots=2, but 1 class has fewer training images, of which all are used: class "
        "2 (1)",
    ):
        assert words in said


@pytest.mark.parametrize("labels", [[-1] * 4, [3] * 4])
def test_a_test_set_that_cannot_be_judged_leaves_the_probe_out(squares, encoder, labels):
    banks = Banks(
        squares(images=8, labels=[0, 1] * 4), squares(images=4, labels=labels, split="test")
    )
    result = evaluate_encoder(encoder, banks, SMALL)
    assert set(result["values"]) == {"part_miou", "part_miou_with_background"}
    assert "linear probe left out: no image of split test can be judged" in result["note"]


def test_what_is_left_out_does_not_change_the_rest(squares, encoder):
    """The probe over a part of the images is that over a set of these alone."""
    labels = np.array([0, 1, 2, 3] * 3)
    whole = Banks(squares(images=12), squares(images=12, split="test"))
    odd = Banks(squares(images=12), squares(images=12, split="test"))
    odd.test.labels = np.where(labels == 3, -1, labels)
    first = evaluate_encoder(encoder, odd, SMALL)["values"]["linear"]["mean"]
    keep = np.flatnonzero(labels != 3)
    second = evaluate_encoder(encoder, Banks(whole.train, whole.test.subset(keep)), SMALL)
    assert first == second["values"]["linear"]["mean"]


def test_more_shots_than_images(squares, encoder):
    banks = Banks(
        squares(images=4, labels=[0, 0, 0, 1]), squares(images=4, split="test", labels=[0, 1, 0, 1])
    )
    result = evaluate_encoder(encoder, banks, SMALL)
    assert "there are 4 training images; all of them are used, in one draw" in result["note"]
    assert len(result["values"]["part_miou"]["values"]) == 1 and "linear_few" in result["values"]
    rows = few_label_indices(np.array([0, 0, 0, 1]), 2, seed=0, fewer=True)
    assert len(rows) == 3 and 3 in rows
    with pytest.raises(DataError, match="class bee has 1 images"):
        few_label_indices(np.array([0, 0, 0, 1]), 2, seed=0, names=["ant", "bee"])


def test_who_is_annotated(squares):
    assert is_annotated(squares().dataset)
    bare = squares(images=4, labels=[-1] * 4).dataset
    bare.part_names = []
    assert not is_annotated(bare)


def test_pixels_that_are_not_judged_count_nowhere():
    true = np.array([[0, 1, IGNORE], [2, IGNORE, 1]])
    pred = np.array([[0, 1, 2], [1, 0, 1]])
    seen = true != IGNORE
    assert np.array_equal(id_counts(pred, true, 3), id_counts(pred[seen], true[seen], 3))
    masks = torch.zeros(1, 4, 4, dtype=torch.uint8)
    masks[0, :2, :2], masks[0, :2, 2:] = IGNORE, 1
    shares = cell_shares(masks, 3, 2)[0]
    assert shares.sum(0).tolist() == [[0, 1], [1, 1]] and shares[1, 0, 1] == 1
    assert without_ignored(masks[0]).max() == 1


def test_cells_that_are_not_judged_have_no_weight_in_the_decoder():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1, 30, 5, generator=generator).repeat(
        2, 1, 1
    )  # twice, so that the scale is the same
    shares = torch.nn.functional.one_hot(
        torch.randint(0, 3, (2, 30), generator=generator), 3
    ).float()
    shares[1] = 0  # the second image is not judged at all
    both, alone = (fit_decoder(points[:n], shares[:n], 0.02, 0.5, tol=1e-6) for n in (2, 1))
    assert torch.allclose(both.weight_KD, alone.weight_KD, atol=2e-3)


def test_loss_of_a_segmenter_leaves_them_out():
    scores = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (1, 4, 4), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )
    masks[0, 1] = IGNORE
    logs = scores[0].log_softmax(0).gather(0, without_ignored(masks[0]).long()[None])[0]
    assert segmentation_loss(scores, masks).item() == pytest.approx(
        -logs[masks[0] != IGNORE].mean().item(), rel=1e-5
    )
    assert segmentation_loss(scores, torch.full_like(masks, IGNORE)).item() == 0


def test_masks_are_looked_at_before_training(squares):
    check_masks(squares(images=6), np.arange(6))
    bank = squares(images=6)
    bank.dataset.part_names = ["left"]
    with pytest.raises(
        DataError, match=r"6 part masks of squares \(train\) cannot be used"
    ) as caught:
        check_masks(bank, np.arange(6))
    assert "mask id 2" in str(caught.value) and "evaluation.part_shots=0" in str(caught.value)


def test_look_ahead_reads_what_evaluation_will_read():
    data = DataConfig(images=12, test_images=8, size=48, species=4)
    banks = look_ahead(data, EvaluationConfig(shots=1, part_shots=4))
    assert len(banks.train) == 12 and len(banks.test) == 8
