"""Over-clustering: many k-means clusters of training cells, each named after the part that fills
most of it, applied to test cells.

After Ziegler and Asano 2022, "Leopart", arXiv 2204.13101; there the test masks name the clusters,
here training masks do. Metric: data-set-level IoU.

Shapes: N cells of a batch, M training cells, D channels, Q clusters, K ids with the background.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.config import CellsConfig
from evaluation.labelled_memory import (
    LabelTransfer,
    build_memory,
    cell_reader,
    count_pixels,
    summarise_transfer,
)
from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.parts.clustering.kmeans import kmeans


def segment_by_clusters(
    encoder: Encoder,
    train_bank: ImageBank,
    test_bank: ImageBank,
    images: np.ndarray,
    clusters: int,
    config: CellsConfig | None = None,
    *,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> LabelTransfer:
    """Cluster training cells, name each cluster after the id with the largest share of it, and
    label test cells by their nearest centroid.

    Args:
        images: positions in the training bank whose cells are clustered.
        clusters: Q.
        config: the settings; their defaults where it is None.
        seed: of k-means, and of the choice of cells where there are more than config.memory.

    Raises:
        ConfigError: more clusters than cells. DataError: parts that overlap, features that are not
            finite.
    """
    config = config or CellsConfig()
    cells = cell_reader(encoder, config, batch, device)
    memory = build_memory(cells, train_bank, images, config.memory, seed)
    if not 2 <= clusters <= len(memory.units_MD):
        raise ConfigError(
            f"overcluster: clusters={clusters} must lie between 2 and the {len(memory.units_MD)} "
            "cells"
        )
    found = kmeans(memory.units_MD[None], clusters, seed=seed)
    centroids_QD = found.centroids_BKD[0][: int(found.k_B[0])]
    names_QK = _name_clusters(found.ids_BN[0], memory.shares_MK, len(centroids_QD))

    def predict(units_ND: Tensor, masks: Tensor) -> Tensor:
        return names_QK[torch.cdist(units_ND, centroids_QD).argmin(1)]

    return summarise_transfer(count_pixels(cells, test_bank, predict))


def _name_clusters(ids_M: Tensor, shares_MK: Tensor, clusters: int) -> Tensor:
    """One-hot (Q, K): the id that covers most of each cluster's cells."""
    mass_QK = torch.zeros(clusters, shares_MK.shape[1], device=shares_MK.device)
    mass_QK.index_add_(0, ids_M, shares_MK)
    return F.one_hot(mass_QK.argmax(1), shares_MK.shape[1]).float()
