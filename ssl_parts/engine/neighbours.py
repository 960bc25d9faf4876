"""Votes of the k nearest neighbours by cosine (Wu et al. 2018, arXiv 1805.01978, section 3.4).

Shapes: N training vectors, B of a chunk of queries, Q queries, D channels, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def vote_of_neighbours(
    train_ND: Tensor,
    labels_N: Tensor,
    queries_QD: Tensor,
    ks: Sequence[int],
    *,
    classes: int,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> dict[int, Tensor]:
    """Rank classes by the votes of the k most similar training vectors.

    A neighbour votes for its class with weight exp(cosine / temperature).

    Args:
        train_ND, queries_QD: float32 vectors of any length.
        labels_N: long, each in [0, classes).
        ks: numbers of neighbours; one search serves all.
        chunk: queries at a time; changes only memory.

    Returns:
        for each k, long (Q, min(5, C)): the classes with most votes, best first, on the device of
        `train_ND`.
    """
    train_ND = F.normalize(train_ND, dim=1)
    ranked: dict[int, list[Tensor]] = {k: [] for k in ks}
    for queries_BD in queries_QD.split(chunk):
        similar_BN = F.normalize(queries_BD.to(train_ND.device), dim=1) @ train_ND.T
        cosine_Bk, near_Bk = similar_BN.topk(max(ks), dim=1)
        # relative to the nearest: no overflow
        weight_Bk = ((cosine_Bk - cosine_Bk[:, :1]) / temperature).exp()
        for k in ks:
            votes_BC = torch.zeros(len(queries_BD), classes, device=train_ND.device)
            votes_BC.scatter_add_(1, labels_N[near_Bk[:, :k]], weight_Bk[:, :k])
            ranked[k].append(votes_BC.topk(min(5, classes), dim=1).indices)
    return {k: torch.cat(pieces) for k, pieces in ranked.items()}
