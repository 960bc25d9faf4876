"""Boxes of mined objects: objects and parts put in by hand."""

import pytest
import torch

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.foreground.mined_boxes import (
    MinedObject,
    boxes_of,
    mine_object,
    part_boxes,
)


def blob_map(height=8, width=8, channels=16, seed=0):
    """Most channels light up rows 2..5, columns 1..3 together; each also one position of its own."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(channels, height, width, generator=generator) * 0.1
    maps[: channels * 3 // 4, 2:6, 1:4] += 3
    for d in range(channels):
        i = int(torch.randint(height * width, (1,), generator=generator))
        maps[d].view(-1)[i] += 3
    return maps


def test_box_goes_to_the_far_edges_and_is_the_image_where_nothing_is():
    mask = torch.zeros(2, 4, 8, dtype=torch.bool)
    mask[0, 1:3, 2:7] = True
    assert boxes_of(mask).tolist() == [[2 / 8, 1 / 4, 7 / 8, 3 / 4], [0, 0, 1, 1]]


def test_the_object_that_was_put_in_is_found():
    mined = mine_object(torch.stack([blob_map(seed=s) for s in range(3)]))
    assert mined.found_B.all()
    expected = torch.tensor([1 / 8, 2 / 8, 4 / 8, 6 / 8])
    # half a cell
    torch.testing.assert_close(mined.boxes_B4, expected.expand(3, 4), atol=0.5 / 8, rtol=0)
    assert (mined.support_BHW >= 0).all() and (mined.support_BHW <= 1).all()
    assert mined.support_BHW.shape == (3, 32, 32)
    assert mined.support_BHW[:, 9:23, 5:15].min() > 0.7 > 0.3 > mined.support_BHW[:, :, 20:].max()


def test_one_image_is_a_batch_of_one_and_batches_change_nothing():
    maps = torch.stack([blob_map(seed=s) for s in range(4)])
    together = mine_object(maps)
    for b in range(4):
        alone = mine_object(maps[b])
        assert torch.equal(alone.boxes_B4[0], together.boxes_B4[b])
        boxes, valid = part_boxes(maps[b : b + 1], alone)
        every_box, every_valid = part_boxes(maps, together)
        torch.testing.assert_close(boxes[0], every_box[b])
        assert torch.equal(valid[0], every_valid[b])


def test_nothing_in_common_is_nothing_found():
    lonely = torch.zeros(1, 16, 4, 4)
    lonely.view(1, 16, 16).diagonal(dim1=1, dim2=2).fill_(1.0)  # each channel its own position
    for maps in (lonely, torch.zeros(1, 5, 4, 4), -torch.rand(1, 5, 4, 4)):
        mined = mine_object(maps)
        assert not mined.found_B.any() and mined.boxes_B4.tolist() == [[0, 0, 1, 1]]
        boxes, valid = part_boxes(maps, mined, 2)
        assert not valid.any() and (boxes == mined.boxes_B4[:, None]).all()


def test_two_parts_of_different_features_are_told_apart():
    maps = torch.rand(1, 16, 8, 8) * 0.01
    maps[0, :12, 1:7, 2:6] += 1  # the object
    maps[0, 0:4, 1:4, 2:6] += 5  # its upper half
    maps[0, 8:12, 4:7, 2:6] += 2  # its lower half
    fine = torch.nn.functional.interpolate(maps.mean(1, keepdim=True), scale_factor=4)[:, 0]
    mined = MinedObject(
        torch.tensor([[0.25, 0.125, 0.75, 0.875]]), fine, fine > 0.5, torch.tensor([True])
    )
    boxes, valid = part_boxes(maps, mined, 2, side=0.5)
    assert valid.all()
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    torch.testing.assert_close(
        centres, torch.tensor([[0.5, 2.5 / 8], [0.5, 5.5 / 8]]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        boxes[0, :, 2:] - boxes[0, :, :2], torch.full((2, 2), 0.375), atol=1e-5, rtol=0
    )


def test_a_flip_keeps_the_order_of_parts():
    maps = blob_map(channels=32, seed=5)[None]
    maps[:, :16, 2:4, 1:4] += 2
    flipped = maps.flip(-1)
    boxes, _ = part_boxes(maps, mine_object(maps), 2)
    mirrored, _ = part_boxes(flipped, mine_object(flipped), 2)
    torch.testing.assert_close(
        mirrored[..., [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([1, 0, 1, 0]),
        boxes,
    )


def test_more_parts_than_positions_are_invalid():
    maps = torch.rand(1, 8, 5, 5)
    inside = torch.zeros(1, 20, 20, dtype=torch.bool)
    inside[0, 8:12, 8:16] = True  # two cells
    mined = MinedObject(boxes_of(inside), inside.float(), inside, torch.tensor([True]))
    _, valid = part_boxes(maps, mined, 3)
    assert not valid.any()
    _, valid = part_boxes(maps, mined, 2)
    assert valid.all()
    boxes, valid = part_boxes(maps[..., :1, :1], mine_object(maps[..., :1, :1]), 2)
    assert boxes.shape == (1, 2, 4) and not valid.any()


@pytest.mark.parametrize(
    ("maps", "options", "word"),
    [
        (torch.rand(2, 2), {}, "shape"),
        (torch.full((1, 2, 3, 3), float("nan")), {}, "NaN"),
        (torch.rand(1, 2, 3, 3), {"support": 0.0}, "support"),
    ],
)
def test_bad_input_is_named(maps, options, word):
    with pytest.raises(PartDiscoveryError, match=word):
        mine_object(maps, **options)
