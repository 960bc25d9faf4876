import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluation.config import SegmenterConfig
from evaluation.masks import read_masks
from evaluation.segmenter import (
    LabelledImages,
    UpsamplingDecoder,
    mirror,
    mirrored_masks,
    segmentation_loss,
    train_segmenter,
)
from ssl_parts.errors import ConfigError

QUICK = {"widths": [16, 16], "lr": 1e-2, "batch": 4}


def labelled(bank, rows):
    return LabelledImages(bank.images(rows), read_masks(bank, np.asarray(rows)))


def test_decoder_doubles_with_each_block():
    decoder = UpsamplingDecoder(12, 5, [8, 4])
    assert decoder(torch.randn(2, 12, 3, 4)).shape == (2, 5, 12, 16)


def test_loss_of_ids_and_of_overlapping_parts_by_hand():
    scores, ids = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    picked = scores.log_softmax(1).gather(1, ids.long()[:, None])
    assert segmentation_loss(scores, ids).item() == pytest.approx(-picked.mean().item(), rel=1e-5)
    planes = torch.randint(0, 2, (2, 3, 4, 4), dtype=torch.uint8)
    p = torch.sigmoid(scores)
    by_hand = -(planes * p.log() + (1 - planes.int()) * (1 - p).log()).mean()
    assert segmentation_loss(scores, planes).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_mirroring_swaps_left_and_right():
    # 1 left wing, 2 right wing, 3 tail
    mask = torch.tensor([[[1, 0, 0, 3, 2]]], dtype=torch.uint8)
    assert mirrored_masks(mask, [(1, 2)]).tolist() == [[[1, 3, 0, 0, 2]]]
    planes = torch.zeros(1, 3, 1, 4, dtype=torch.uint8)
    planes[0, 0, 0, 0] = 1
    assert mirrored_masks(planes, [(1, 2)])[0, :, 0].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]


def test_only_flagged_images_are_mirrored():
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 1, 4)
    masks = torch.tensor([[[1, 0, 0, 0]], [[1, 0, 0, 0]]], dtype=torch.uint8)
    turned, swapped = mirror(images, masks, np.array([False, True]), [(1, 2)])
    assert (turned[0] == images[0]).all()
    assert (turned[1] == images[1].flip(-1)).all()
    assert swapped.tolist() == [[[1, 0, 0, 0]], [[0, 0, 0, 2]]]


def test_training_is_a_function_of_the_seed_and_leaves_the_encoder_alone(encoder, squares):
    bank = squares(images=8)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    config = SegmenterConfig(epochs=2, **QUICK)
    one, two, other = (
        train_segmenter(
            encoder, labelled(bank, range(4)), None, 3, config, finetune=True, seed=seed
        )
        for seed in (1, 1, 2)
    )
    for key, value in one.decoder.state_dict().items():
        assert torch.equal(value, two.decoder.state_dict()[key])
    assert not torch.equal(one.decoder.classify.weight, other.decoder.classify.weight)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert not torch.equal(
        one.encoder.model.layer1[0].conv1.weight, encoder.model.layer1[0].conv1.weight
    )


def test_frozen_training_learns_and_keeps_the_encoder(encoder, squares):
    bank, test = squares(images=16), squares(images=6, split="test")
    config = SegmenterConfig(epochs=30, **QUICK)
    trained = train_segmenter(encoder, labelled(bank, range(16)), None, 3, config, finetune=False)
    inside, union = trained.counts(iter([labelled(test, range(6))]))
    assert (inside / union)[0] > 0.9
    assert (inside / union)[1:].mean() > 0.4
    assert trained.encoder is encoder
    assert np.isnan(trained.validation)


def test_the_epoch_is_the_best_on_validation_images(encoder, squares):
    """The returned network scores on validation what it says, and no later look was better:
    retrain to each and see.
    """
    bank = squares(images=16)
    train, validation = labelled(bank, range(4)), labelled(bank, range(8, 14))
    config = SegmenterConfig(epochs=6, validate_every=2, **QUICK)
    chosen = train_segmenter(encoder, train, validation, 3, config, finetune=False, seed=3)

    def miou(segmenter):
        inside, union = segmenter.counts(iter([validation]))
        return np.nanmean(inside / np.maximum(union, 1))

    each = {}
    for epochs in (2, 4, 6):
        stopped = SegmenterConfig(epochs=epochs, validate_every=2, **QUICK)
        last = train_segmenter(encoder, train, None, 3, stopped, finetune=False, seed=3)
        each[epochs] = miou(last)
    assert miou(chosen) == pytest.approx(chosen.validation, abs=1e-6)
    assert chosen.validation == pytest.approx(max(each.values()), abs=1e-6)
    assert chosen.epoch == max(each, key=each.get)


def test_overlapping_parts_are_learned(encoder, squares):
    bank = squares(images=12, multi_label=True)
    config = SegmenterConfig(epochs=30, **QUICK)
    trained = train_segmenter(encoder, labelled(bank, range(12)), None, 2, config, finetune=False)
    inside, union = trained.counts(iter([labelled(bank, range(12))]))
    assert len(inside) == 3
    assert (inside / union).min() > 0.4


def test_frozen_norm_statistics_stay(encoder, squares):
    bank = squares(images=4)
    for freeze, same in ((True, True), (False, False)):
        config = SegmenterConfig(epochs=1, freeze_norm=freeze, **QUICK)
        four = labelled(bank, range(4))
        trained = train_segmenter(encoder, four, None, 3, config, finetune=True)
        assert (
            torch.equal(trained.encoder.model.bn1.running_mean, encoder.model.bn1.running_mean)
            == same
        )


def test_kept_features_are_those_of_each_batch(encoder, squares):
    from evaluation.segmenter import _FrozenMaps

    data = labelled(squares(images=5), range(5))
    kept = _FrozenMaps(encoder, data, [(1, 2)], "cpu")
    flags = np.array([True, False, True])
    maps, masks = kept.batch(np.array([4, 0, 2]), flags)
    images, expected = mirror(data.images[[4, 0, 2]], data.masks[[4, 0, 2]], flags, [(1, 2)])
    with torch.no_grad():
        direct = encoder(images.float() / 255).maps[encoder.last_stage]
    assert F.mse_loss(maps, direct) < 1e-8
    assert torch.equal(masks, expected)


def test_settings_out_of_range_are_named():
    for key, value in (("epochs", 0), ("lr", 0.0), ("flip", 2.0), ("widths", [])):
        with pytest.raises(ConfigError, match=f"segmenter.{key}="):
            SegmenterConfig(**{key: value}).check()
