import torch

from ssl_parts.data.flip import flip_sample, left_right_pairs, swap_ids
from ssl_parts.data.records import Sample


def test_pairs_from_names():
    names = [
        "back",
        "left eye",
        "right eye",
        "front_left_door",
        "front_right_door",
        "l_lip",
        "u_lip",
        "leftover",
    ]
    assert left_right_pairs(names) == [(1, 2), (3, 4)]
    assert left_right_pairs(["r_brow", "l_brow"]) == [(1, 0)]


def test_flip():
    image = torch.arange(3 * 2 * 4, dtype=torch.uint8).reshape(3, 2, 4)
    mask = torch.tensor([[1, 2, 0, 3], [0, 0, 3, 3]], dtype=torch.uint8)
    points = torch.tensor([[0.5, 0.5, 1.0], [3.5, 1.5, 1.0], [0.0, 0.0, 0.0]])
    sample = Sample(image, 1, "x", (0.0, 0.0, 1.0, 2.0), mask, points)
    flipped = flip_sample(sample, [(1, 2)], [(0, 1)])
    assert torch.equal(flipped.image, image.flip(-1)) and flipped.box == (3.0, 0.0, 4.0, 2.0)
    assert flipped.part_mask.tolist() == [[3, 0, 1, 2], [3, 3, 0, 0]]
    assert flipped.keypoints.tolist() == [[0.5, 1.5, 1.0], [3.5, 0.5, 1.0], [0.0, 0.0, 0.0]]
    twice = flip_sample(flipped, [(1, 2)], [(0, 1)])
    assert (
        torch.equal(twice.part_mask, mask)
        and torch.equal(twice.keypoints, points)
        and twice.box == sample.box
    )


def test_flip_of_overlapping_maps():
    maps = torch.zeros(3, 1, 2, dtype=torch.uint8)
    maps[0, 0, 0] = maps[1, 0, 1] = maps[2, 0, 0] = 1
    flipped = flip_sample(
        Sample(torch.zeros(3, 1, 2, dtype=torch.uint8), None, "x", part_mask=maps), [(1, 2)]
    )
    assert flipped.part_mask[:, 0].tolist() == [[1, 0], [0, 1], [0, 1]]


def test_swap_ids():
    assert swap_ids(torch.tensor([[0, 4, 5, 9]], dtype=torch.uint8), [(4, 5)]).tolist() == [
        [0, 5, 4, 9]
    ]
