"""Boxes around found objects and parts against a brute force in numpy and scipy."""

import numpy as np
import torch
from scipy import ndimage

from ssl_parts.parts.crops import find_boxes, place_boxes, scatter_boxes, to_windows

BACKGROUND, P, MARGIN, SIDE = 0, 3, 1.15, 0.5


def by_hand(ids_hw):
    """Boxes of one image, or None, the object's first."""
    h, w = ids_hw.shape
    numbered, count = ndimage.label(ids_hw != BACKGROUND, np.ones((3, 3)))
    if count == 0:
        return [None] * (P + 1)
    sizes = [(numbered == n).sum() for n in range(1, count + 1)]
    shape = numbered == 1 + int(np.argmax(sizes))
    y, x = np.nonzero(shape)
    left, right, top, bottom = x.min() / w, (x.max() + 1) / w, y.min() / h, (y.max() + 1) / h
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    half_x, half_y = MARGIN * (right - left) / 2, MARGIN * (bottom - top) / 2
    box = [middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y]
    half = SIDE * max(right - left, bottom - top) / 2
    areas = {k: (shape & (ids_hw == k)).sum() for k in np.unique(ids_hw[shape])}
    squares = []
    for k in sorted(areas, key=lambda k: (-areas[k], k))[:P]:
        row, column = ndimage.center_of_mass(shape & (ids_hw == k))
        cx = min(max((column + 0.5) / w, half), 1 - half)
        cy = min(max((row + 0.5) / h, half), 1 - half)
        squares.append([cx - half, cy - half, cx + half, cy + half])
    return [np.clip(box, 0, 1), *squares, *[None] * (P - len(squares))]


def test_boxes_are_those_of_a_brute_force():
    random = np.random.default_rng(0)
    ids_Bhw = random.integers(1, 6, (40, 7, 9)) * (random.random((40, 7, 9)) < 0.35)
    ids_Bhw[3] = BACKGROUND
    ids_Bhw[4] = 2
    found = find_boxes(torch.from_numpy(ids_Bhw).to(torch.uint8), BACKGROUND, P, MARGIN, SIDE)
    for ids_hw, boxes_M4, valid_M in zip(ids_Bhw, found.boxes_BM4, found.valid_BM, strict=True):
        expected = by_hand(ids_hw)
        assert valid_M.tolist() == [box is not None for box in expected]
        for box, mine_4 in zip(expected, boxes_M4, strict=True):
            box = [0, 0, 1, 1] if box is None else box
            np.testing.assert_allclose(mine_4.numpy(), box, atol=1e-6)


def test_without_a_background_all_is_object():
    found = find_boxes(torch.zeros(1, 4, 4), None, parts=2)
    assert found.valid_BM.tolist() == [[True, True, False]]
    torch.testing.assert_close(found.boxes_BM4[0, 1], torch.tensor([0.25, 0.25, 0.75, 0.75]))


def test_scattered_boxes_keep_their_sides_and_reach_every_edge():
    boxes_BM4 = place_boxes(torch.rand(50, 4, 2), torch.rand(50, 4, 2) * 0.9)
    assert boxes_BM4.min() >= -1e-6 and boxes_BM4.max() <= 1 + 1e-6
    for uniform, edge in ((0.0, 0.0), (1.0, 1.0)):
        moved_BM4 = scatter_boxes(boxes_BM4, torch.full((50, 4, 2), uniform))
        sides, before = (b[..., 2:] - b[..., :2] for b in (moved_BM4, boxes_BM4))
        torch.testing.assert_close(sides, before)
        reached = moved_BM4[..., :2] if uniform == 0 else moved_BM4[..., 2:]
        torch.testing.assert_close(reached, torch.full_like(reached, edge))


def test_windows_lie_inside_and_are_at_least_one_pixel_large():
    boxes_N4 = torch.tensor(
        [[0, 0, 1, 1], [0.25, 0.5, 0.75, 1], [0.99, 0.99, 1, 1], [0.3, 0, 0.3, 1]]
    )
    expected = [[0, 0, 8, 8], [2, 4, 4, 4], [7, 7, 1, 1], [2, 0, 1, 8]]
    assert to_windows(boxes_N4, 8).tolist() == expected
