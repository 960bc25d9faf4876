"""How well a head's evidence overlaps with the object and its parts: pointing game, IoU, parts
reached.

Such a figure means little alone, so the centre of the image is measured beside
it: photographers and drawn scenes put the object there. Boxes are x0 y0 x1 y1 as shares of the
image.

Shapes: N images, h w a map, R boxes, P parts or keypoints, S side of the square image.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from evaluation.heads.head import Head, Localization
from ssl_parts.data import ImageBank, Sample
from ssl_parts.encoders import evaluating
from ssl_parts.parts.foreground.mined_boxes import boxes_of, largest_component

HALF = 0.5  # of a map's range: what lies above it counts as found
NEAR = 0.1  # a keypoint is reached within this share of the box's longer side
CENTRE = "centre of the image"


@dataclass(frozen=True)
class Truth:
    """Annotation of one image: box_4 and keypoints as shares of the image, ids_SS of parts (0
    background).
    """

    box_4: Tensor | None
    ids_SS: Tensor | None
    keypoints_P2: Tensor | None  # the visible ones

    @classmethod
    def of(cls, sample: Sample) -> "Truth":
        size = sample.image.shape[-1]
        box = None if sample.box is None else torch.tensor(sample.box) / size
        mask = sample.part_mask
        if mask is not None and mask.ndim == 3:  # several labels per pixel: any one of them will do
            mask = (mask * torch.arange(1, len(mask) + 1, dtype=torch.uint8)[:, None, None]).amax(0)
        points = sample.keypoints
        points = None if points is None else points[points[:, 2] > 0][:, :2] / size
        return cls(box, mask, points)

    def parts_at(self, points_R2: Tensor) -> list[int]:
        """The part under (or the keypoint near) each point; 0 for none."""
        if self.ids_SS is not None:
            S = self.ids_SS.shape[-1]
            columns_R2 = (points_R2 * S).long().clamp(0, S - 1)
            return self.ids_SS[columns_R2[:, 1], columns_R2[:, 0]].tolist()
        if self.keypoints_P2 is None or self.box_4 is None or len(self.keypoints_P2) == 0:
            return [0] * len(points_R2)
        distance_RP = torch.cdist(points_R2, self.keypoints_P2)
        near_R, which_R = distance_RP.min(1)
        reach = NEAR * (self.box_4[2:] - self.box_4[:2]).max()
        return torch.where(near_R <= reach, which_R + 1, 0).tolist()

    @property
    def has_parts(self) -> bool:
        return self.ids_SS is not None or (
            self.keypoints_P2 is not None and len(self.keypoints_P2) > 0
        )


def measure_overlap(
    head: Head, bank: ImageBank, positions: np.ndarray | None = None, batch: int = 32
) -> dict:
    """Means over images, by the name of each map and of each kind of boxes.

    Maps: "in box" and "on part", shares of images whose maximum lies in the object's box and on
    (or near) a part; "mass in box", the share of the map that lies there; "IoU" of the box around
    the largest component above half of the range with the object's box, and "IoU > 0.5".
    Boxes: "in box" and "on part" of their centres, "IoU" and "IoU > 0.5" of the box around all of
    an image's, "parts reached", different parts under the centres for each box.
    Groups of channels ("mid channel 0", ...): "parts reached" under their maxima.
    Only what the data set has annotations for is there; {} without any.
    """
    order = np.arange(len(bank)) if positions is None else np.asarray(positions)
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    device = next(head.parameters()).device
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        truths = [Truth.of(bank.sample(int(i))) for i in chunk]
        with evaluating(head), torch.inference_mode():
            found = head.localize(bank.images(chunk).to(device).float().div(255))
        for name, values in overlap_of(found, truths).items():
            for key, listed in values.items():
                sums[name][key] += listed
    return {
        name: {key: float(np.mean(v)) for key, v in values.items()} for name, values in sums.items()
    }


def overlap_of(where: Localization, truths: list[Truth]) -> dict[str, dict[str, list[float]]]:
    """The figures of `measure_overlap`, one value per image where it applies."""
    found: dict[str, dict[str, list[float]]] = {}
    centre = torch.zeros(len(truths), 3, 3)
    centre[:, 1, 1] = 1
    for name, map_Nhw in {**where.maps, CENTRE: centre}.items():
        found[name] = _of_map(map_Nhw.float().cpu(), truths, shaped=name != CENTRE)
    for group in sorted({name.rsplit(" ", 1)[0] for name in where.maps if " channel " in name}):
        members = [
            m.float().cpu() for name, m in where.maps.items() if name.startswith(f"{group} ")
        ]
        peaks_NR2 = torch.stack([peaks_of(m) for m in members], 1)
        found[f"{group}s"] = {"parts reached": _parts_reached(peaks_NR2, truths)}
    for name, boxes_NR4 in where.boxes.items():
        found[name] = _of_boxes(boxes_NR4.float().cpu(), where.valid[name].cpu(), truths)
    return {
        name: {key: v for key, v in values.items() if v}
        for name, values in found.items()
        if any(values.values())
    }


def peaks_of(map_Nhw: Tensor) -> Tensor:
    """Centre (N,2), x y as shares, of each map's highest cell (of equal ones, their mean)."""
    h, w = map_Nhw.shape[-2:]
    best_Nhw = (map_Nhw >= map_Nhw.amax((1, 2), keepdim=True)).float()
    best_Nhw = best_Nhw / best_Nhw.sum((1, 2), keepdim=True)
    x_N = (best_Nhw.sum(1) * (torch.arange(w) + 0.5) / w).sum(1)
    y_N = (best_Nhw.sum(2) * (torch.arange(h) + 0.5) / h).sum(1)
    return torch.stack([x_N, y_N], 1)


def box_of_map(map_Nhw: Tensor, finer: int = 4) -> Tensor:
    """Box (N,4) around the largest component above half of each map's range, cut on a grid `finer`
    times the map's.
    """
    if max(map_Nhw.shape[-2:]) < 64:
        map_Nhw = F.interpolate(
            map_Nhw[:, None], scale_factor=finer, mode="bilinear", align_corners=False
        )[:, 0]
    low, high = map_Nhw.amin((1, 2), keepdim=True), map_Nhw.amax((1, 2), keepdim=True)
    return boxes_of(largest_component(map_Nhw >= low + HALF * (high - low)))


def _of_map(map_Nhw: Tensor, truths: list[Truth], shaped: bool) -> dict[str, list[float]]:
    peaks_N2 = peaks_of(map_Nhw)
    boxes = {i: truth.box_4 for i, truth in enumerate(truths) if truth.box_4 is not None}
    parted = [i for i, truth in enumerate(truths) if truth.has_parts]
    values = {
        "in box": [float(_inside(peaks_N2[i], box_4)) for i, box_4 in boxes.items()],
        "on part": [float(truths[i].parts_at(peaks_N2[i : i + 1])[0] > 0) for i in parted],
    }
    if shaped:
        ious = [_iou(box_of_map(map_Nhw[i : i + 1])[0], box_4) for i, box_4 in boxes.items()]
        values["mass in box"] = [_mass_inside(map_Nhw[i], box_4) for i, box_4 in boxes.items()]
        values |= {"IoU": ious, "IoU > 0.5": [float(iou > 0.5) for iou in ious]}
    return values


def _of_boxes(boxes_NR4: Tensor, valid_NR: Tensor, truths: list[Truth]) -> dict[str, list[float]]:
    centres_NR2 = (boxes_NR4[..., :2] + boxes_NR4[..., 2:]) / 2
    values: dict[str, list[float]] = defaultdict(list)
    for boxes_R4, centres_R2, valid_R, truth in zip(
        boxes_NR4, centres_NR2, valid_NR, truths, strict=True
    ):
        boxes_R4, centres_R2 = boxes_R4[valid_R], centres_R2[valid_R]
        if len(boxes_R4) == 0:
            continue
        if truth.box_4 is not None:
            hull_4 = torch.cat([boxes_R4[:, :2].amin(0), boxes_R4[:, 2:].amax(0)])
            values["in box"].append(
                float(np.mean([float(_inside(c, truth.box_4)) for c in centres_R2]))
            )
            values["IoU"].append(_iou(hull_4, truth.box_4))
            values["IoU > 0.5"].append(float(values["IoU"][-1] > 0.5))
        if truth.has_parts:
            values["on part"].append(
                float(np.mean([part > 0 for part in truth.parts_at(centres_R2)]))
            )
            values["parts reached"] += _parts_reached(centres_R2[None], [truth])
    return dict(values)


def _parts_reached(points_NR2: Tensor, truths: list[Truth]) -> list[float]:
    """Number of different parts under each image's points, for each point: 1 when all are on parts
    of their own.
    """
    reached = []
    for points_R2, truth in zip(points_NR2, truths, strict=True):
        if truth.has_parts:
            reached.append(len(set(truth.parts_at(points_R2)) - {0}) / len(points_R2))
    return reached


def _inside(point_2: Tensor, box_4: Tensor) -> bool:
    return bool((point_2 >= box_4[:2]).all() and (point_2 <= box_4[2:]).all())


def _iou(box_4: Tensor, other_4: Tensor) -> float:
    return float(box_iou(box_4[None], other_4[None])[0, 0])


def _mass_inside(map_hw: Tensor, box_4: Tensor) -> float:
    """Share of a map inside a box; cells that it cuts count by their area."""
    shares = []
    for n, low, high in (
        (map_hw.shape[0], box_4[1], box_4[3]),
        (map_hw.shape[1], box_4[0], box_4[2]),
    ):
        edges = torch.arange(n + 1) / n
        shares.append(
            (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0) * n
        )
    return float((map_hw * shares[0][:, None] * shares[1]).sum() / map_hw.sum().clamp(min=1e-12))
