"""Overlap of a head's evidence with boxes and parts, on cases that can be read off."""

import numpy as np
import pytest
import torch

from evaluation.heads import Localization
from evaluation.heads.overlap import CENTRE, Truth, box_of_map, overlap_of, peaks_of
from evaluation.heads.pictures import columns_of
from ssl_parts.data import Sample


def truth(box=(0.5, 0.0, 1.0, 0.5), parts=None, points=None):
    return Truth(torch.tensor(box), parts, points)


def quarters():
    """Part 1 in the upper right quarter's left half, part 2 in its right half, background
    elsewhere.
    """
    ids = torch.zeros(40, 40, dtype=torch.uint8)
    ids[:20, 20:30], ids[:20, 30:] = 1, 2
    return ids


def peak_map(x, y, size=8):
    grid = torch.zeros(1, size, size)
    grid[0, int(y * size), int(x * size)] = 1.0
    return grid


def test_peak_is_the_centre_of_the_highest_cell():
    assert peaks_of(peak_map(0.8, 0.3))[0].tolist() == pytest.approx([6.5 / 8, 2.5 / 8])
    assert peaks_of(torch.ones(1, 4, 6))[0].tolist() == pytest.approx([0.5, 0.5])


def test_box_of_a_map_is_around_its_largest_high_area():
    grid = torch.zeros(1, 128, 128)
    grid[0, 20:40, 60:100], grid[0, 100:104, 0:4] = 1.0, 1.0
    assert box_of_map(grid)[0].tolist() == pytest.approx([60 / 128, 20 / 128, 100 / 128, 40 / 128])


@pytest.mark.parametrize(
    ("x", "y", "inside", "on_part"), [(0.6, 0.2, 1, 1), (0.2, 0.2, 0, 0), (0.9, 0.9, 0, 0)]
)
def test_pointing_game(x, y, inside, on_part):
    values = overlap_of(Localization(maps={"a": peak_map(x, y)}), [truth(parts=quarters())])
    assert (values["a"]["in box"], values["a"]["on part"]) == ([inside], [on_part])
    assert values[CENTRE]["in box"] == [1.0]  # a corner of this box


def test_mass_and_iou_by_hand():
    grid = torch.zeros(1, 64, 64)
    grid[0, :32, 32:] = 1.0  # the box itself
    grid[0, 63, :16] = 1.0
    values = overlap_of(Localization(maps={"a": grid}), [truth()])["a"]
    assert values["mass in box"] == pytest.approx([1024 / 1040])
    assert values["IoU"] == pytest.approx([1.0]) and values["IoU > 0.5"] == [1.0]
    half = torch.zeros(1, 64, 64)
    half[0, :16, 32:] = 1.0
    values = overlap_of(Localization(maps={"a": half}), [truth(box=(0.5, 0.0, 1.0, 0.625))])["a"]
    assert values["IoU"] == pytest.approx([0.4]) and values["IoU > 0.5"] == [0.0]


def test_boxes_invalid_ones_left_out():
    boxes = torch.tensor([[[0.5, 0.0, 0.7, 0.2], [0.8, 0.1, 1.0, 0.5], [0.0, 0.8, 0.2, 1.0]]])
    found = Localization(boxes={"r": boxes}, valid={"r": torch.tensor([[True, True, False]])})
    values = overlap_of(found, [truth(parts=quarters())])["r"]
    assert values["in box"] == [1.0] and values["on part"] == [1.0]
    assert values["IoU"] == pytest.approx([1.0])  # the hull of the two is the box
    assert values["parts reached"] == [1.0]  # parts 1 and 2 under two centres
    none = Localization(boxes={"r": boxes}, valid={"r": torch.zeros(1, 3, dtype=torch.bool)})
    assert "r" not in overlap_of(none, [truth(parts=quarters())])


def test_channel_groups_on_the_same_and_on_different_parts():
    same = {f"high channel {i}": peak_map(0.6, 0.2) for i in range(2)}
    apart = {"high channel 0": peak_map(0.6, 0.2), "high channel 1": peak_map(0.9, 0.2)}
    assert overlap_of(Localization(maps=same), [truth(parts=quarters())])["high channels"][
        "parts reached"
    ] == [0.5]
    assert overlap_of(Localization(maps=apart), [truth(parts=quarters())])["high channels"][
        "parts reached"
    ] == [1.0]


def test_keypoints_count_within_reach():
    points = torch.tensor([[0.6, 0.1], [0.9, 0.4]])
    at = truth(points=points).parts_at(torch.tensor([[0.63, 0.1], [0.6, 0.2], [0.9, 0.39]]))
    assert at == [1, 0, 2]  # the reach is a tenth of the box's longer side, 0.05


def test_truth_of_a_sample_is_in_shares():
    sample = Sample(
        torch.zeros(3, 50, 50, dtype=torch.uint8),
        0,
        "a",
        (10, 20, 30, 45),
        None,
        torch.tensor([[5.0, 10, 1], [0, 0, 0]]),
    )
    found = Truth.of(sample)
    assert found.box_4.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.9])
    assert found.keypoints_P2.tolist() == [pytest.approx([0.1, 0.2])]
    assert overlap_of(Localization(maps={"a": peak_map(0.1, 0.2)}), [Truth(None, None, None)]) == {}


def test_pictures_have_a_column_for_each_map_and_one_for_the_boxes():
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32), dtype=np.uint8)
    )
    found = Localization(
        {"attention": torch.rand(2, 4, 4), "flat": torch.ones(2, 4, 4)},
        {
            "object": torch.tensor([[[0.1, 0.1, 0.6, 0.6]]] * 2),
            "parts": torch.tensor([[[0.2, 0.2, 0.4, 0.4]] * 2] * 2),
        },
        {
            "object": torch.ones(2, 1, dtype=torch.bool),
            "parts": torch.zeros(2, 2, dtype=torch.bool),
        },
    )
    columns = columns_of(found, images)
    assert list(columns) == ["image", "attention", "flat", "object, parts"]
    assert all(
        p.dtype == torch.uint8 and p.shape == (3, 160, 160) for c in columns.values() for p in c
    )
    drawn, plain = columns["object, parts"][0], columns["image"][0]
    changed = (drawn != plain).any(0)
    # the object's edge; no invalid part
    assert changed[16:18, 20:90].all() and not changed[40:60, 40:60].any()
