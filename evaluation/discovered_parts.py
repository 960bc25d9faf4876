"""How good discovered parts are, judged by keypoints, part masks and boxes that discovery has not
seen (docs/method.md, section 6).

NMI, ARI and keypoint regression need ids that mean the same thing in every image (`PartStore.scope
== "dataset"`); `per_image_nmi` compares within each image and takes any ids.

Shapes: N images, K part ids (background not counted), P keypoints, S size of an id map.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from evaluation.agreement import nmi_ari
from evaluation.results import Unit
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.records import Sample
from ssl_parts.errors import DataError, PartDiscoveryError
from ssl_parts.parts.refinement.components import largest_component
from ssl_parts.parts.store import PartStore

CORLOC_IOU = 0.5
RIDGE = 1e-8  # share of the mean diagonal: keeps the regression solvable when parts never occur


@dataclass(frozen=True)
class PartScores:
    """What the annotations at hand allow; None where they are missing.

    keypoint_nmi, keypoint_ari: part id at each visible keypoint against the keypoint's id, all
    images pooled. pixel_nmi, pixel_ari: every pixel against the true part masks, background
    included. foreground_*: pixels on the true object only. image_nmi: NMI within each image's
    object, averaged. keypoint_error: see `keypoint_error`. foreground_iou: with the true object,
    mean over images. corloc: share of images where the box around the largest piece of the
    foreground and the true box have an IoU of at least 0.5. box_iou: mean of those IoUs.
    """

    keypoint_nmi: float | None = None
    keypoint_ari: float | None = None
    keypoint_error: float | None = None
    pixel_nmi: float | None = None
    pixel_ari: float | None = None
    foreground_nmi: float | None = None
    foreground_ari: float | None = None
    image_nmi: float | None = None
    foreground_iou: float | None = None
    corloc: float | None = None
    box_iou: float | None = None

    @staticmethod
    def unit_of(name: str) -> Unit:
        """The unit of a score: keypoint_error is in percent of the box, the others fractions."""
        return "percent" if name == "keypoint_error" else "fraction"

    def as_dict(self) -> dict[str, float]:
        """The scores that there are, by name."""
        return {
            f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None
        }


def keypoint_ids(store: PartStore, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Part id and keypoint id of every visible keypoint inside its image, all images pooled."""
    pred, true = [], []
    for ids_SS, sample in zip(_ids(store), samples):
        points = _keypoints(sample)
        visible = np.flatnonzero(_visible(points, sample))
        cells = _cells(points[visible, :2], sample, store.size)
        pred.append(ids_SS[cells[:, 1], cells[:, 0]])
        true.append(visible)
    return np.concatenate(pred), np.concatenate(true)


def part_centroids(store: PartStore, samples: list[Sample]) -> np.ndarray:
    """Centroids of the parts in the object's box, 0..1 inside it: float64 (N, 2K), zero where a
    part is absent.
    """
    parts = [i for i in range(store.k) if i != store.background]
    places = (np.arange(store.size) + 0.5) / store.size
    out = np.zeros((len(samples), len(parts), 2))
    for n, (ids_SS, sample) in enumerate(zip(_ids(store), samples)):
        x0, y0, x1, y1 = _box(sample)
        height, width = sample.image.shape[-2:]
        for column, part in enumerate(parts):
            rows, columns = np.nonzero(ids_SS == part)
            if len(rows):
                x, y = places[columns].mean() * width, places[rows].mean() * height
                out[n, column] = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
    return out.reshape(len(samples), -1)


def keypoint_error(
    train_store: PartStore,
    train_samples: list[Sample],
    test_store: PartStore,
    test_samples: list[Sample],
) -> float:
    """Mean distance between true and regressed keypoints, in percent of the object's box.

    Part centroids normalised by the box are standardised by the training images; a linear map
    without intercept to the keypoints (normalised by the box and centred on the training mean) is
    fitted on the training images' visible ones, after the unsup-parts release (Choudhury et al.
    2021; docs/method.md, section 6.2).
    """
    train_x, test_x = (
        part_centroids(train_store, train_samples),
        part_centroids(test_store, test_samples),
    )
    mean, spread = train_x.mean(0), train_x.std(0)
    train_x, test_x = ((x - mean) / np.where(spread > 0, spread, 1.0) for x in (train_x, test_x))
    (train_y, train_seen), (test_y, test_seen) = (
        _box_keypoints(train_samples),
        _box_keypoints(test_samples),
    )
    errors = []
    for p in range(train_y.shape[1]):
        seen, shown = train_seen[:, p], test_seen[:, p]
        if not seen.any() or not shown.any():
            continue
        centre = train_y[seen, p].mean(0)
        gram = train_x[seen].T @ train_x[seen]
        gram += RIDGE * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
        weights = np.linalg.solve(gram, train_x[seen].T @ (train_y[seen, p] - centre))
        errors.append(np.linalg.norm(test_x[shown] @ weights + centre - test_y[shown, p], axis=1))
    if not errors:
        raise DataError("no keypoint is visible in both the training and the test images")
    return float(100 * np.concatenate(errors).mean())


def foreground_scores(store: PartStore, samples: list[Sample]) -> dict[str, float]:
    """foreground_iou where there are part masks, corloc and box_iou where there are boxes."""
    if store.background is None:
        return {}
    ious, box_ious = [], []
    for ids_SS, sample in zip(_ids(store), samples):
        front = _resized(ids_SS != store.background, *sample.image.shape[-2:])
        if sample.part_mask is not None:
            ious.append(_overlap(front, _object(sample.part_mask)))
        if sample.box is not None:
            box_ious.append(box_iou(_box_of(front), sample.box))
    scores = {"foreground_iou": float(np.mean(ious))} if ious else {}
    if box_ious:
        scores |= {
            "corloc": float(np.mean(np.array(box_ious) >= CORLOC_IOU)),
            "box_iou": float(np.mean(box_ious)),
        }
    return scores


def box_iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); 0 for boxes without area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return float(shared / (sum(areas) - shared)) if sum(areas) > shared else 0.0


def pixel_scores(store: PartStore, samples: list[Sample]) -> dict[str, float]:
    """NMI and ARI of all pixels, and of those on the true object; mean NMI within each image's
    object.
    """
    masks = [sample.part_mask for sample in samples if sample.part_mask is not None]
    if len(masks) < len(samples) or any(mask.ndim != 2 for mask in masks):
        return {}
    pred, true, within = [], [], []
    for ids_SS, mask in zip(_ids(store), masks):
        mask_HW = mask.numpy()
        ids_HW = _resized(ids_SS, *mask_HW.shape)
        pred.append(ids_HW.ravel())
        true.append(mask_HW.ravel())
        if len(np.unique(mask_HW[mask_HW > 0])) > 1:
            within.append(nmi_ari(ids_HW[mask_HW > 0], mask_HW[mask_HW > 0])[0])
    scores = {"image_nmi": float(np.mean(within))} if within else {}
    if store.scope == "dataset":
        pred, true = np.concatenate(pred), np.concatenate(true)
        scores["pixel_nmi"], scores["pixel_ari"] = nmi_ari(pred, true)
        scores["foreground_nmi"], scores["foreground_ari"] = nmi_ari(pred[true > 0], true[true > 0])
    return scores


def judge_parts(
    store: PartStore,
    images: ImageBank,
    train_store: PartStore | None = None,
    train_images: ImageBank | None = None,
) -> PartScores:
    """All scores that the annotations of these images allow.

    Args:
        store, images: row i of the store is image i of the bank (a test split, usually).
        train_store, train_images: the same discovery on training images, for the keypoint
            regression.

    Raises:
        PartDiscoveryError: a store over other images.
    """
    store.verify()
    if len(store) == len(images) and not _annotated(images.sample(0)):
        return PartScores()
    samples = _samples(store, images)
    scores = pixel_scores(store, samples) | foreground_scores(store, samples)
    if samples[0].keypoints is not None and store.scope == "dataset":
        scores["keypoint_nmi"], scores["keypoint_ari"] = nmi_ari(*keypoint_ids(store, samples))
        if train_store is not None and train_images is not None:
            train_samples = _samples(train_store, train_images)
            scores["keypoint_error"] = keypoint_error(train_store, train_samples, store, samples)
    return PartScores(**scores)


def _samples(store: PartStore, images: ImageBank) -> list[Sample]:
    if len(store) != len(images):
        raise PartDiscoveryError(
            f"a part store of {len(store)} images cannot be judged on {len(images)} others"
        )
    return [_without_pixels(images.sample(i)) for i in range(len(images))]


def _annotated(sample: Sample) -> bool:
    return any(given is not None for given in (sample.box, sample.part_mask, sample.keypoints))


def _without_pixels(sample: Sample) -> Sample:
    """The image keeps its shape and gives its memory back: scores need no pixel, and all samples
    are held at once.
    """
    return replace(sample, image=sample.image.new_zeros(()).expand(sample.image.shape))


def _ids(store: PartStore) -> list[np.ndarray]:
    return [store[i].numpy() for i in range(len(store))]


def _keypoints(sample: Sample) -> np.ndarray:
    if sample.keypoints is None:
        raise DataError(f"{sample.path} has no keypoints")
    return sample.keypoints.numpy().astype(np.float64)


def _visible(points: np.ndarray, sample: Sample) -> np.ndarray:
    height, width = sample.image.shape[-2:]
    inside = (
        (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
    )
    return inside & (points[:, 2] > 0)


def _cells(points: np.ndarray, sample: Sample, size: int) -> np.ndarray:
    height, width = sample.image.shape[-2:]
    return (points * (size / np.array([width, height]))).astype(int).clip(0, size - 1)


def _box(sample: Sample) -> tuple[float, float, float, float]:
    if sample.box is None:
        raise DataError(f"{sample.path} has no box, which keypoint regression needs")
    x0, y0, x1, y1 = sample.box
    return x0, y0, max(x1, x0 + 1.0), max(y1, y0 + 1.0)


def _box_keypoints(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in 0..1 of their image's box (N, P, 2), and which are visible (N, P)."""
    places, seen = [], []
    for sample in samples:
        x0, y0, x1, y1 = _box(sample)
        points = _keypoints(sample)
        places.append((points[:, :2] - (x0, y0)) / (x1 - x0, y1 - y0))
        seen.append(_visible(points, sample))
    return np.stack(places), np.stack(seen)


def _resized(map_SS: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (
        np.arange(height) * len(map_SS) // height,
        np.arange(width) * len(map_SS) // width,
    )
    return map_SS[rows][:, columns]


def _object(mask: Tensor) -> np.ndarray:
    covered = np.asarray(mask.numpy() > 0)
    return np.asarray(covered.any(0)) if covered.ndim == 3 else covered


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def _box_of(front_HW: np.ndarray) -> tuple[float, float, float, float]:
    largest_1HW = largest_component(torch.from_numpy(front_HW)[None], diagonals=False)
    pieces = ndimage.find_objects(largest_1HW[0].numpy().astype(np.int8))
    if not pieces:
        return 0.0, 0.0, 0.0, 0.0
    rows, columns = pieces[0]
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)
