"""Mirroring with annotations: what is called left becomes right."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ssl_parts.data.records import Sample

OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def left_right_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of names that differ in one word, left and right or l and r: "left wing" and
    "right wing".
    """
    place = {name.lower(): i for i, name in enumerate(names)}
    pairs = []
    for name, i in place.items():
        words = re.split(r"([\W_]+)", name)
        for w, word in enumerate(words):
            if word in ("left", "l"):
                j = place.get("".join([*words[:w], OPPOSITE[word], *words[w + 1 :]]))
                if j is not None:
                    pairs.append((i, j))
    return sorted(pairs)


def swap_ids(ids: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Ids (uint8, any shape) with the ids of each pair exchanged."""
    table = torch.arange(256, dtype=torch.uint8)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table[ids.long()]


def flip_sample(
    sample: Sample,
    part_pairs: Sequence[tuple[int, int]] = (),
    keypoint_pairs: Sequence[tuple[int, int]] = (),
) -> Sample:
    """The mirrored sample.

    Args:
        part_pairs: mask ids (1..P) that change places; for a multi-label mask, planes id - 1.
        keypoint_pairs: keypoints (0..P-1) that change places.
    """
    width = sample.image.shape[-1]
    box, mask, points = sample.box, sample.part_mask, sample.keypoints
    if box is not None:
        box = (width - box[2], box[1], width - box[0], box[3])
    if mask is not None:
        mask = mask.flip(-1)
        mask = (
            swap_ids(mask, part_pairs)
            if mask.ndim == 2
            else mask[_order(len(mask), part_pairs, first=1)]
        )
    if points is not None:
        mirrored = torch.stack([width - points[:, 0], points[:, 1], points[:, 2]], 1)
        points = torch.where(points[:, 2:] > 0, mirrored, points)[
            _order(len(points), keypoint_pairs, first=0)
        ]
    return replace(sample, image=sample.image.flip(-1), box=box, part_mask=mask, keypoints=points)


def _order(n: int, pairs: Sequence[tuple[int, int]], first: int) -> list[int]:
    order = list(range(n))
    for a, b in pairs:
        order[a - first], order[b - first] = b - first, a - first
    return order
