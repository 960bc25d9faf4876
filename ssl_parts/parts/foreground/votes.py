"""Foreground by votes of a data set's images.

One photograph does not say what is object and what is not; a few hundred of one kind do: what the
camera was pointed at sits in the middle more often than at the border. Small clusters of pixel
features, pooled over the images, are scored by where their members lie, and every pixel gets the
log-odds of its clusters plus those of its place. The two are on one scale, so an encoder that sees
the object outweighs the place, and with one that does not the place decides.

Ours, in the spirit of Amir et al. (arXiv 2112.05814: clusters become foreground by votes of the
images) with the place instead of CLS attention, which convolutional networks do not have
(docs/method.md, section 9).

Shapes: M images of the sample, B images, N = S*S cells (of a sampled image: some of them), D
channels, d directions kept, C clusters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.clustering.centroids import nearest
from ssl_parts.parts.clustering.kmeans import kmeans
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource
from ssl_parts.parts.dense.isometry import principal_directions
from ssl_parts.parts.dense.sampling import sample_cells, take_cells
from ssl_parts.parts.foreground.config import VotesConfig
from ssl_parts.parts.foreground.foreground import SALT, ScoredForeground

CELLS = 96  # of each sampled image: bounds the memory of the sample
DIRECTIONS = 64
SPREAD = 0.5  # standard deviation of the centred bump, where the image reaches from -1 to 1
LIKELY, UNLIKELY = 0.85, 0.05  # probability of foreground in the centre and far out
# of re-estimation; with many more, the two classes drift to whatever splits the pixels best
ROUNDS = 3
ITERATIONS = 20


@dataclass(frozen=True)
class VoteModel:
    """What a sample of images taught: `centroids` and `log_odds` of several clusterings, and those
    of each cell.
    """

    mean_D: Tensor
    basis_Dd: Tensor  # directions that are kept
    centroids: list[Tensor]  # each (C, d)
    log_odds: list[Tensor]  # each (C,)
    place_N: Tensor  # log-odds of each cell

    def scores(self, reduced_BNd: Tensor, position: float) -> Tensor:
        """Log-odds (B, N) of foreground: mean over the clusterings, plus `position` times those of
        the place.

        reduced_BNd: `(points - mean_D) @ basis_Dd`.
        """
        score_BN = position * self.place_N.to(reduced_BNd).expand(reduced_BNd.shape[:2])
        for centroids_Cd, log_odds_C in zip(self.centroids, self.log_odds):
            nearest_BN = nearest(reduced_BNd, centroids_Cd.to(reduced_BNd))
            score_BN = score_BN + log_odds_C.to(reduced_BNd)[nearest_BN] / len(self.centroids)
        return score_BN

    def state(self) -> dict[str, Tensor | list[Tensor]]:
        """The fields by name."""
        return {
            key: getattr(self, key)
            for key in ("mean_D", "basis_Dd", "centroids", "log_odds", "place_N")
        }


class VotesForeground(ScoredForeground):
    """Votes of the clusters of a sample of the data set."""

    def __init__(
        self, config: VotesConfig, encoder: Encoder | None, dense: DenseConfig, size: int
    ) -> None:
        super().__init__(config, encoder, dense, size)
        self.config = config
        self.model: VoteModel | None = None

    def fit(self, source: FeatureSource, rows: np.ndarray | None = None) -> dict[str, Any]:
        """A `VoteModel` from some cells of these images, or of a seeded sample."""
        config = self.config
        rows = source.sample_rows(config.sample, SALT) if rows is None else rows
        points, cells = [], []
        for batch in source.batches(rows):
            points_BND = self.grid.vectors(batch)
            cells_BM = sample_cells(source.seeds(batch.indices), points_BND.shape[1], CELLS)
            points.append(take_cells(points_BND, cells_BM)[: batch.count].cpu())
            cells.append(cells_BM[: batch.count])
        sample = torch.cat(points), torch.cat(cells)
        return fit_votes(*sample, config.size, config.clusters, source.seed).state()

    def load(self, state: dict[str, Any]) -> None:
        """Take over the fields of a `VoteModel`."""
        self.model = VoteModel(**state)

    def scores(self, batch: Batch) -> Tensor:
        """Log-odds (B, G*G) of foreground, smoothed."""
        assert self.model is not None, "scores before fit or load"
        basis_Dd, mean_D = (
            x.to(batch.images.device) for x in (self.model.basis_Dd, self.model.mean_D)
        )
        reduced_BNd = self.grid.vectors(batch, basis_Dd) - mean_D @ basis_Dd
        return self.smoothed(self.model.scores(reduced_BNd, self.config.position), reduced_BNd)


def fit_votes(
    points_MND: Tensor, cells_MN: Tensor, size: int, clusters: list[int], seed: int
) -> VoteModel:
    """Learn from some cells of each image of a sample; two clusterings for each entry of
    `clusters`.

    points_MND: their features; cells_MN: their places, row-major in the size x size grid.
    """
    mean_D = points_MND.mean((0, 1))
    basis_Dd, _ = principal_directions(points_MND, DIRECTIONS)
    reduced_1Pd = ((points_MND - mean_D) @ basis_Dd).flatten(0, 1)[None]
    prior_N = centred_prior(size).flatten()
    centroids, log_odds = [], []
    for number, C in enumerate(c for c in clusters for _ in range(2)):
        C = min(C, reduced_1Pd.shape[1])
        found = kmeans(reduced_1Pd, C, seed=seed + number, iterations=ITERATIONS)
        used = int(found.k_B[0])
        counts_CN = torch.zeros(used, size**2, dtype=torch.float64)
        counts_CN.index_put_(
            (found.ids_BN[0].cpu(), cells_MN.flatten().cpu()),
            torch.ones((), dtype=torch.float64),
            accumulate=True,
        )
        centroids.append(found.centroids_BKD[0, :used])
        log_odds.append(_log_odds(counts_CN, prior_N.double()))
    return VoteModel(mean_D, basis_Dd, centroids, log_odds, torch.logit(prior_N))


def centred_prior(size: int) -> Tensor:
    """Probability (S, S) that a cell is foreground when only its place is known: a bump in the
    middle.
    """
    along_S = ((torch.arange(size) + 0.5) / size * 2 - 1).square()
    bump_SS = torch.exp(-(along_S[:, None] + along_S) / (2 * SPREAD**2))
    return UNLIKELY + (LIKELY - UNLIKELY) * bump_SS


def _log_odds(counts_CN: Tensor, prior_N: Tensor) -> Tensor:
    """log p(cluster | foreground) - log p(cluster | background), float32 (C,).

    A few rounds of expectation-maximisation of a two-class model in which cluster and place are
    independent given the class, started from the prior; one round would call foreground whatever
    is a little commoner in the middle.
    """
    posterior_CN = prior_N.expand_as(counts_CN)
    log_odds_C = counts_CN.new_zeros(len(counts_CN))
    for _ in range(ROUNDS):
        front_C, back_C = (counts_CN * posterior_CN).sum(1), (counts_CN * (1 - posterior_CN)).sum(1)
        front_C, back_C = (
            (front_C / front_C.sum()).clamp_min(1e-9),
            (back_C / back_C.sum()).clamp_min(1e-9),
        )
        seen_N = counts_CN.sum(0)
        place_N = torch.where(
            seen_N > 0, (counts_CN * posterior_CN).sum(0) / seen_N.clamp_min(1), prior_N
        )
        place_N = place_N.clamp(1e-3, 1 - 1e-3)
        front_CN, back_CN = front_C[:, None] * place_N, back_C[:, None] * (1 - place_N)
        posterior_CN = front_CN / (front_CN + back_CN)
        log_odds_C = (front_C / back_C).log()
    return log_odds_C.float()
