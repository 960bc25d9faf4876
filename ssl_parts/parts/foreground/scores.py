"""Which cells of an image are the object. Scores are positive on the foreground; background
becomes one id.

Shapes: B images, S x S grid, N = S*S cells in row-major order, D channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.data.records import without_ignored
from ssl_parts.parts.dense.hypercolumn import resize

WEAK_EDGE = 1e-5  # TokenCut's weight of a pair under the threshold: keeps the graph connected
# of the edge-aware smoothing: cosine similarity counts as exp((cos - 1) / scale)
SIMILARITY_SCALE = 0.3
SMOOTHING_ROUNDS = 3


def spectral_scores(points_BND: Tensor, affinity: float = 0.2) -> Tensor:
    """Normalised cut of each image in two (B, N): TokenCut (Wang et al. 2022) on the cells of any
    encoder.

    Cells are connected where their cosine similarity exceeds `affinity`; the second smallest
    eigenvector of the normalised Laplacian, cut at its mean, parts them. Which side is the object
    is settled by `away_from_border`.
    """
    unit_BND = F.normalize(points_BND.double(), dim=-1)
    scores = []
    for unit_ND in unit_BND:
        weights_NN = torch.where(unit_ND @ unit_ND.T > affinity, 1.0, WEAK_EDGE).double()
        root_N = weights_NN.sum(1).sqrt()
        _, vectors_NN = torch.linalg.eigh(weights_NN / root_N[:, None] / root_N)
        cut_N = vectors_NN[:, -2] / root_N
        scores.append(cut_N - cut_N.mean())
    return away_from_border(_unit_scale(torch.stack(scores)).float())


def component_scores(points_BND: Tensor) -> Tensor:
    """First principal component of each image's cells, cut at zero (B, N)."""
    centred_BND = points_BND.double() - points_BND.double().mean(1, keepdim=True)
    scores = []
    for centred_ND in centred_BND:
        if centred_ND.shape[0] <= centred_ND.shape[1]:
            scores.append(torch.linalg.eigh(centred_ND @ centred_ND.T)[1][:, -1])
        else:
            scores.append(centred_ND @ torch.linalg.eigh(centred_ND.T @ centred_ND)[1][:, -1])
    return away_from_border(_unit_scale(torch.stack(scores)).float())


def away_from_border(scores_BN: Tensor) -> Tensor:
    """Flip the sign where the positive side takes up more of the image's border than of its
    inside.

    An eigenvector has no sign of its own; whatever touches the frame more is taken for background.
    """
    size = round(scores_BN.shape[1] ** 0.5)
    frame_N = torch.ones(size, size, dtype=torch.bool, device=scores_BN.device)
    frame_N[1:-1, 1:-1] = False
    frame_N = frame_N.flatten()
    positive_BN = (scores_BN > 0).float()
    on_frame_B = positive_BN[:, frame_N].mean(1)
    inside_B = positive_BN[:, ~frame_N].mean(1) if bool((~frame_N).any()) else 0.5
    return torch.where((on_frame_B > inside_B)[:, None], -scores_BN, scores_BN)


def smooth(scores_BN: Tensor, points_BND: Tensor, reach: float) -> Tensor:
    """Each score becomes a mean over cells that are near (Gaussian of `reach` times the side) and
    look alike.
    """
    if reach <= 0:
        return scores_BN
    size = round(scores_BN.shape[1] ** 0.5)
    along_S = (torch.arange(size, device=scores_BN.device) + 0.5) / size
    bump_SS = torch.exp(-((along_S[:, None] - along_S) ** 2) / (2 * reach**2))
    near_NN = (bump_SS[:, None, :, None] * bump_SS[None, :, None, :]).reshape(size**2, size**2)
    smoothed = []
    for score_N, unit_ND in zip(scores_BN, F.normalize(points_BND.float(), dim=-1)):
        weights_NN = torch.exp((unit_ND @ unit_ND.T - 1) / SIMILARITY_SCALE) * near_NN
        weights_NN = weights_NN / weights_NN.sum(1, keepdim=True)
        for _ in range(SMOOTHING_ROUNDS):
            score_N = weights_NN @ score_N
        smoothed.append(score_N)
    return torch.stack(smoothed)


def to_mask(scores_BN: Tensor, size: int, least_share: float) -> Tensor:
    """Foreground (B, size*size) bool: resized scores above zero, and at least `least_share` of
    each image.
    """
    side = round(scores_BN.shape[1] ** 0.5)
    fine_BN = resize(scores_BN.view(-1, 1, side, side), size).flatten(1)
    least = math.ceil(least_share * fine_BN.shape[1])
    limit_B1 = fine_BN.topk(least, dim=1).values[:, -1:]
    return (fine_BN > 0) | (fine_BN >= limit_B1)


def box_mask(boxes: list[tuple[float, float, float, float]], image_size: int, size: int) -> Tensor:
    """Foreground (B, size*size) bool from boxes (x0, y0, x1, y1) in pixels: cells whose centre is
    inside.
    """
    centre_S = (torch.arange(size) + 0.5) * image_size / size
    masks = []
    for x0, y0, x1, y1 in boxes:
        columns_S, rows_S = (centre_S >= x0) & (centre_S <= x1), (centre_S >= y0) & (centre_S <= y1)
        masks.append((rows_S[:, None] & columns_S[None]).flatten())
    return torch.stack(masks)


def given_mask(part_masks: list[Tensor], size: int) -> Tensor:
    """Foreground (B, size*size) bool from part masks, (H,W) ids or (P,H,W) of 0/1: cells that are
    half part or more.
    """
    masks = []
    for mask in map(without_ignored, part_masks):
        object_HW = (mask > 0).any(0) if mask.ndim == 3 else mask > 0
        share_SS = F.interpolate(object_HW[None, None].float(), size=(size, size), mode="area")[
            0, 0
        ]
        masks.append((share_SS >= 0.5).flatten())
    return torch.stack(masks)


def _unit_scale(scores_BN: Tensor) -> Tensor:
    return scores_BN / scores_BN.abs().amax(1, keepdim=True).clamp_min(1e-12)
