"""Detect regressions against the initial encoder, without labels, and with scores where there are
some.

A few epochs on a few hundred images can cost a strong encoder ten points while the loss falls.
Shapes: N images, D channels of pooled features.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.data import Bank, evenly_spaced
from ssl_parts.encoders import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.engine.statistics import rank_me

IMAGES, NEIGHBOURS = 512, 10
RANK_KEPT, NEIGHBOURS_KEPT = 0.7, 0.35  # below these a strong encoder has lost something
TOLERATED_LOSS = 0.01  # of accuracy or IoU, without a warning


@dataclass(frozen=True)
class Drift:
    """How far an encoder is from its start on the same training images.

    rank_before, rank_after: RankMe of pooled features. neighbours_kept: share of each image's 10
    nearest neighbours (cosine) that still are; chance is 10 / images. cosine: mean similarity of
    an image's features before and after.
    """

    images: int
    rank_before: float
    rank_after: float
    neighbours_kept: float
    cosine: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name, for JSON."""
        return asdict(self)


def measure_drift(before: Encoder, after: Encoder, bank: Bank) -> Drift:
    """Compare two encoders on up to 512 evenly spaced images of a bank."""
    rows = torch.from_numpy(evenly_spaced(len(bank), IMAGES))
    first_ND, second_ND = (pool_features(encoder, bank, rows) for encoder in (before, after))
    return Drift(
        images=len(rows),
        rank_before=float(rank_me(first_ND)),
        rank_after=float(rank_me(second_ND)),
        neighbours_kept=compare_neighbours(first_ND, second_ND, NEIGHBOURS),
        cosine=float(F.cosine_similarity(first_ND, second_ND, dim=1).mean()),
    )


@torch.inference_mode()
def pool_features(encoder: Encoder, bank: Bank, rows: Tensor, batch: int = 64) -> Tensor:
    """Pooled features (N, D) float32 of whole images, in host memory; modes stay as they are."""
    device = next(encoder.parameters()).device
    with evaluating(encoder):
        pieces = [bank.images(part).to(device).float() / 255 for part in rows.split(batch)]
        return torch.cat([encoder(piece).pooled.float().cpu() for piece in pieces])


def compare_neighbours(first_ND: Tensor, second_ND: Tensor, k: int) -> float:
    """Mean overlap, in [0, 1], of the two lists of k nearest neighbours (cosine) of each row.

    Args:
        first_ND, second_ND: features of the same images; widths may differ.
    """
    lists = []
    for features_ND in (first_ND, second_ND):
        unit_ND = F.normalize(features_ND, dim=1)
        similar_NN = (unit_ND @ unit_ND.T).fill_diagonal_(-2)  # a row is no neighbour of itself
        lists.append(similar_NN.topk(min(k, len(unit_ND) - 1), dim=1).indices)
    shared_NKK = lists[0].unsqueeze(2) == lists[1].unsqueeze(1)
    return float(shared_NKK.any(2).float().mean())


def describe_harm(
    drift: Drift, before: Mapping[str, float], after: Mapping[str, float]
) -> list[str]:
    """Describe each regression in a sentence; [] if there is none.

    Args:
        before, after: scores by name, as fractions, of the initial encoder and of the result; those
            of the initial encoder are compared, {} compares none.
    """
    found = []
    if drift.rank_after < RANK_KEPT * drift.rank_before:
        found.append(
            f"the effective rank of the features fell from {drift.rank_before:.0f} to "
            f"{drift.rank_after:.0f}"
        )
    if drift.neighbours_kept < NEIGHBOURS_KEPT:
        found.append(
            f"only {drift.neighbours_kept:.0%} of each image's nearest neighbours are still its "
            "neighbours"
        )
    for name, start in before.items():
        if after[name] < start - TOLERATED_LOSS:
            found.append(f"{name} fell from {100 * start:.1f} to {100 * after[name]:.1f}")
    return found
