import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from evaluation.config import LinearDecoderConfig
from evaluation.features import on_grid
from evaluation.masks import cell_shares, read_masks
from evaluation.metrics import confusion_matrix, iou_per_class
from evaluation.part_segmentation import draw_shots, few_shot_part_segmentation, fit_decoder
from ssl_parts.errors import ConfigError, DataError


def test_cell_shares_of_an_id_mask_by_hand():
    mask = torch.tensor([[0, 1, 2, 2], [0, 1, 2, 2], [0, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.uint8)
    shares = cell_shares(mask[None], 3, 2)[0]
    assert shares[0].tolist() == [[0.5, 0.0], [1.0, 0.75]]
    assert shares[1].tolist() == [[0.5, 0.0], [0.0, 0.25]]
    assert shares[2].tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_shares_give_the_pixels_cross_entropy():
    masks = torch.randint(0, 4, (2, 8, 8), dtype=torch.uint8)
    logits = torch.randn(2, 4, 4, 4)
    per_pixel = F.cross_entropy(F.interpolate(logits, size=(8, 8), mode="nearest"), masks.long())
    by_cell = -(cell_shares(masks, 4, 4) * logits.log_softmax(1)).sum(1).mean()
    assert by_cell.item() == pytest.approx(per_pixel.item(), rel=1e-5)


def test_the_decoder_is_a_logistic_regression():
    torch.manual_seed(0)
    points, ids = torch.randn(3, 50, 6), torch.randint(0, 3, (3, 50))
    points[..., 0] += ids
    decoder = fit_decoder(points, F.one_hot(ids, 3).float(), weight_decay=0.01, tol=1e-5)
    x = points.flatten(0, 1)
    x = (x / x.std(0, correction=0)).numpy()
    model = LogisticRegression(C=1 / (0.01 * 150), tol=1e-8, max_iter=10_000).fit(
        x, ids.flatten().numpy()
    )
    ours = points.flatten(0, 1) @ decoder.weight_KD.T + decoder.bias_K
    theirs = torch.tensor(model.decision_function(x)).float()
    centred = [z - z.mean(1, keepdim=True) for z in (ours, theirs)]
    assert (centred[0] - centred[1]).abs().max() < 0.05


def test_result_against_a_plain_reading_of_the_protocol(encoder, squares):
    """Sklearn on the same points, pixel by pixel loops for the metric."""
    train, test = squares(images=16), squares(images=6, split="test")
    result = few_shot_part_segmentation(
        encoder, train, test, 5, LinearDecoderConfig(seed=3, draws=1, grid=8), batch=4
    )
    chosen = draw_shots(16, 5, 1, 3)[0]

    def points(bank, rows):
        with torch.no_grad():
            maps = encoder(bank.images(rows).float() / 255, stages=encoder.stages).maps
        return on_grid(maps, encoder.stages, 8)

    x = points(train, chosen).permute(0, 2, 3, 1).flatten(0, 2)
    scale = x.std(0, correction=0).clamp_min(1e-6)
    shares = cell_shares(read_masks(train, chosen), 3, 8).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    weight = shares.mean(0) ** -0.5
    weight /= (weight * shares.mean(0)).sum()
    repeated = np.repeat((x / scale).numpy(), 3, axis=0)
    model = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-6, max_iter=10_000)
    model.fit(repeated, np.tile([0, 1, 2], len(x)), sample_weight=(shares * weight).reshape(-1))
    maps = points(test, np.arange(6)) / scale[:, None, None]
    logits = torch.einsum("bdhw,kd->bkhw", maps, torch.tensor(model.coef_).float())
    logits = logits + torch.tensor(model.intercept_).float()[:, None, None]
    pred = F.interpolate(logits, size=(32, 32), mode="bilinear").argmax(1).numpy()
    iou = iou_per_class(confusion_matrix(pred, read_masks(test, np.arange(6)).numpy(), 3))
    assert result.iou_per_class == pytest.approx(iou.tolist(), abs=0.01)
    assert result.miou == pytest.approx(iou[1:].mean(), abs=0.01)
    assert result.miou_with_background == pytest.approx(iou.mean(), abs=0.01)


def test_easy_parts_are_found_and_draws_are_repeatable(encoder, squares):
    train, test = squares(images=24), squares(images=8, split="test")
    config = LinearDecoderConfig(draws=2, grid=16, weight_decay=1e-3)
    result = few_shot_part_segmentation(encoder, train, test, 12, config)
    assert result.miou > 0.45  # a decoder that guesses the background has 0
    assert len(result.draws) == 2
    assert result.miou == pytest.approx(np.mean(result.draws))
    assert result.sd == pytest.approx(np.std(result.draws, ddof=1))
    assert result.names == ("background", "left", "right")
    again = few_shot_part_segmentation(encoder, train, test, 12, config, batch=5)
    assert again.draws == pytest.approx(result.draws, abs=2e-3)


def test_all_images_are_one_draw(encoder, squares):
    result = few_shot_part_segmentation(
        encoder, squares(images=4), squares(images=4, split="test"), None
    )
    assert len(result.draws) == 1
    assert np.isnan(result.sd)


def test_draws_depend_on_seed_and_number_alone():
    assert [d.tolist() for d in draw_shots(50, 5, 3, 1)] == [
        d.tolist() for d in draw_shots(50, 5, 3, 1)
    ]
    assert draw_shots(50, 5, 3, 1)[0].tolist() == draw_shots(50, 5, 1, 1)[0].tolist()
    assert draw_shots(50, 5, 1, 1)[0].tolist() != draw_shots(50, 5, 1, 2)[0].tolist()


def test_errors_name_what_is_wrong(encoder, squares):
    train, test = squares(images=4), squares(images=4, split="test")
    with pytest.raises(ConfigError, match="shots=5 must lie between 1 and the 4"):
        few_shot_part_segmentation(encoder, train, test, 5)
    bank = squares(images=4)
    bank.dataset.part_names = ["left"]
    with pytest.raises(DataError, match="mask id 2, but squares names 1 parts"):
        few_shot_part_segmentation(encoder, bank, test, 2)


def test_overlapping_parts_get_a_sigmoid_each(encoder, squares):
    """Against one binary sklearn regression a part."""
    train, test = (
        squares(images=12, multi_label=True),
        squares(images=5, split="test", multi_label=True),
    )
    result = few_shot_part_segmentation(
        encoder, train, test, 6, LinearDecoderConfig(draws=1, weight_decay=1e-2)
    )
    chosen = draw_shots(12, 6, 1, 0)[0]

    def points(bank, rows):
        with torch.no_grad():
            maps = encoder(bank.images(rows).float() / 255, stages=encoder.stages).maps
        return on_grid(maps, encoder.stages, 32).permute(0, 2, 3, 1).flatten(0, 2)

    x = points(train, chosen)
    scale = x.std(0, correction=0).clamp_min(1e-6)
    truth = read_masks(train, chosen).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    expected = read_masks(test, np.arange(5)).permute(0, 2, 3, 1).flatten(0, 2).numpy() > 0
    found = []
    for part in range(2):
        model = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-6, max_iter=10_000).fit(
            x / scale, truth[:, part]
        )
        found.append(model.decision_function(points(test, np.arange(5)) / scale) > 0)
    for part in range(2):
        iou = (found[part] & expected[:, part]).sum() / (found[part] | expected[:, part]).sum()
        assert result.iou_per_class[part + 1] == pytest.approx(iou, abs=0.02)
    empty = ~(found[0] | found[1]), ~expected.any(1)
    assert result.iou_per_class[0] == pytest.approx(
        (empty[0] & empty[1]).sum() / (empty[0] | empty[1]).sum(), abs=0.01
    )
