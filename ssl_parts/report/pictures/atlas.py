"""Each part with the patches of the data set that are most like it.

Shapes: n images of a batch, D channels, S x S grid of ids, K ids, M part vectors.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from evaluation.features import iterate_features, on_grid
from ssl_parts.data import evenly_spaced
from ssl_parts.parts import kmeans
from ssl_parts.parts.palette import colours
from ssl_parts.report.pictures.album import Album, framed, strip
from ssl_parts.report.pictures.looks import Looks

IMAGES, PATCHES, SIDE, MOST = 400, 8, 96, 24
DATASET_TEXT = (
    "Each part of the last round with the patches whose features are nearest to its mean. A good part is one thing in "
    "every patch; its frame has the part's colour."
)
IMAGE_TEXT = (
    "Parts were found in each image by itself, so they are grouped here by their features (k-means over images) to "
    "see what recurs. A good group is one thing in every patch."
)


@dataclass(frozen=True)
class PartVectors:
    """One row a part of an image: its mean feature, the image, its id, and its box on the image in
    0..1.
    """

    vectors_MD: Tensor
    image_M: np.ndarray
    id_M: np.ndarray
    box_M4: np.ndarray


def draw_atlas(album: Album, looks: Looks) -> None:
    """One card a part: PATCHES patches of different images, nearest first."""
    store = looks.store
    shared = store.scope == "dataset"
    section = album.section("atlas", "Part atlas", DATASET_TEXT if shared else IMAGE_TEXT)
    rows = evenly_spaced(len(looks.run.bank), IMAGES)
    parts = part_vectors(looks, rows)
    if not len(parts.vectors_MD):
        section.gaps.append("No image has a part besides the background.")
        return
    group_M = (
        parts.id_M
        if shared
        else _groups(parts.vectors_MD, store.k - (store.background is not None))
    )
    palette = colours(store.k, store.background)
    counts = np.bincount(group_M)
    for place, number in enumerate(np.argsort(-counts, kind="stable")[:MOST]):
        if counts[number]:
            red, green, blue = palette[number].tolist() if shared else (128, 128, 128)
            picture = strip(
                [
                    framed(tile, (red, green, blue))
                    for tile in _patches(looks, parts, group_M == number)
                ],
                4,
            )
            seen = len(np.unique(parts.image_M[group_M == number]))
            name = f"Part {number}" if shared else f"Group {place + 1}"
            album.add(
                section, picture, name, f"In {100 * seen / len(rows):.0f} % of {len(rows)} images."
            )


def part_vectors(looks: Looks, rows: np.ndarray) -> PartVectors:
    """Pool the last encoder's last map over every part of these images; background and absent ids
    are left out.
    """
    encoder, bank, store = looks.encoders["after"], looks.run.bank, looks.store
    vectors, images, numbers, boxes = [], [], [], []
    stage = encoder.last_stage
    for chunk, features in iterate_features(
        encoder, bank, [stage], rows, device=looks.run.accelerator.device
    ):
        map_nDSS = on_grid(features.maps, [stage], store.size).float().cpu()
        ids_nSS = store.batch(chunk).long()
        member_nKN = F.one_hot(ids_nSS.flatten(1), store.k).transpose(1, 2).float()
        if store.background is not None:
            member_nKN[:, store.background] = 0
        sums_nKD = member_nKN @ map_nDSS.flatten(2).transpose(1, 2)
        i_M, k_M = (member_nKN.sum(2) > 0).nonzero(as_tuple=True)
        vectors.append(F.normalize(sums_nKD[i_M, k_M], dim=1))
        images.append(chunk[i_M.numpy()])
        numbers.append(k_M.numpy())
        boxes.append(_boxes(member_nKN[i_M, k_M].unflatten(1, (store.size, store.size))))
    return PartVectors(
        torch.cat(vectors), np.concatenate(images), np.concatenate(numbers), np.concatenate(boxes)
    )


def _boxes(member_MSS: Tensor) -> np.ndarray:
    """A square around each part's mean place, larger than the part, inside the image: float (M, 4)
    in 0..1.
    """
    size = member_MSS.shape[-1]
    area_M = member_MSS.sum((1, 2))
    place_S = (torch.arange(size) + 0.5) / size
    x_M, y_M = ((member_MSS.sum(axis) * place_S).sum(1) / area_M for axis in (1, 2))
    half_M = (0.9 * area_M.sqrt() / size).clamp(0.12, 0.35)
    x_M, y_M = (torch.minimum(torch.maximum(place, half_M), 1 - half_M) for place in (x_M, y_M))
    return torch.stack([x_M - half_M, y_M - half_M, x_M + half_M, y_M + half_M], 1).numpy()


def _groups(vectors_MD: Tensor, k: int) -> np.ndarray:
    return kmeans(vectors_MD[None], min(k, len(vectors_MD)), seed=0).ids_BN[0].numpy()


def _patches(looks: Looks, parts: PartVectors, chosen_M: np.ndarray) -> list[Tensor]:
    """The parts nearest to the mean of the chosen ones, at most one an image, as tiles."""
    rows = np.flatnonzero(chosen_M)
    vectors_MD = parts.vectors_MD[rows]
    order = rows[
        (vectors_MD @ F.normalize(vectors_MD.mean(0), dim=0))
        .argsort(descending=True, stable=True)
        .numpy()
    ]
    _, first = np.unique(parts.image_M[order], return_index=True)
    return [_patch(looks, parts, row) for row in order[np.sort(first)][:PATCHES]]


def _patch(looks: Looks, parts: PartVectors, row: int) -> Tensor:
    image = looks.run.bank.images([parts.image_M[row]])[0]
    x0, y0, x1, y1 = (parts.box_M4[row] * image.shape[-1]).round().astype(int)
    return resize(
        image[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], [SIDE, SIDE], antialias=True
    )
