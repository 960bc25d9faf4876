"""The vote of nearest neighbours by cosine, for monitors and for the k-NN protocol.

Shapes: N rows with a label, M rows that ask, D channels, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
GUESSES = 5


def vote_knn(
    features_ND: Tensor,
    labels_N: Tensor,
    queries_MD: Tensor,
    ks: Sequence[int],
    classes: int,
    *,
    temperature: float = TEMPERATURE,
    chunk: int = 1024,
) -> dict[int, Tensor]:
    """Classify rows by their k nearest neighbours, each with weight exp(cosine / temperature).

    Source: Wu et al., arXiv 1805.01978, section 3.4, as in the evaluation of DINO.

    Args:
        features_ND: float (N, D), need not be normalised. labels_N: long (N,), 0..classes-1.
        queries_MD: float (M, D), on any device; moved to that of the features in chunks.
        ks: numbers of neighbours, each 1..N; all come from one search.
        temperature: above 0.
        chunk: queries at a time; changes nothing but memory.

    Returns:
        for each k the best `min(5, classes)` classes of each query, long (M, 5), best first, in
        host memory.
    """
    bank_ND = F.normalize(features_ND, dim=1)
    guesses: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part_BD in queries_MD.split(chunk):
        query_BD = F.normalize(part_BD.to(bank_ND.device), dim=1)
        cosine_Bk, near_Bk = (query_BD @ bank_ND.T).topk(max(ks), dim=1)
        # relative to the nearest: no overflow, and the vote stays the same
        weight_Bk = ((cosine_Bk - cosine_Bk[:, :1]) / temperature).exp()
        for k in ks:
            votes_BC = torch.zeros(len(query_BD), classes, device=bank_ND.device)
            votes_BC.scatter_add_(1, labels_N[near_Bk[:, :k]], weight_Bk[:, :k])
            guesses[k].append(votes_BC.topk(min(GUESSES, classes), dim=1).indices.cpu())
    return {k: torch.cat(found) for k, found in guesses.items()}
