"""Dense retrieval: a cell of a test image takes the labels of its nearest labelled training cells.

Nothing is trained (Balazevic et al. 2023, "Towards in-context scene understanding", arXiv
2306.01667). Metric: data-set-level IoU.

Shapes: N cells of a batch, M cells of the memory, D channels, K ids with the background.
"""

import numpy as np
import torch
from torch import Tensor

from evaluation.config import RetrievalConfig
from evaluation.labelled_memory import (
    LabelTransfer,
    Memory,
    build_memory,
    cell_reader,
    count_pixels,
    summarise_transfer,
)
from evaluation.masks import cell_shares
from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError

CHUNK = 4096  # cells that are compared with the memory at once


def retrieve_labels(
    encoder: Encoder,
    train_bank: ImageBank,
    test_bank: ImageBank,
    images: np.ndarray,
    config: RetrievalConfig | None = None,
    *,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> LabelTransfer:
    """Label test cells by the k nearest training cells by cosine, weighted by softmax(cosine /
    temperature) over those k.

    Args:
        images: positions in the training bank whose cells make the memory.
        config: the settings; their defaults where it is None.
        seed: of the choice of cells where there are more than config.memory.

    Raises:
        ConfigError: k or the temperature out of range. DataError: parts that overlap, features
            that are not finite.
    """
    config = config or RetrievalConfig()
    if not 1 <= config.k <= config.memory or not config.temperature > 0:
        raise ConfigError(
            f"retrieval: k={config.k} must lie in 1..memory={config.memory}, "
            f"temperature={config.temperature} above 0"
        )
    cells = cell_reader(encoder, config, batch, device)
    memory = build_memory(cells, train_bank, images, config.memory, seed)
    voter = _Voter(memory, config)
    counts = count_pixels(cells, test_bank, voter.predict)
    return summarise_transfer(counts, voter.precision())


class _Voter:
    """Predicts from a memory, and counts how often the nearest cell shows the right part."""

    def __init__(self, memory: Memory, config: RetrievalConfig) -> None:
        self.memory, self.config = memory, config
        self.k = min(config.k, len(memory.units_MD))
        self.right_2K = np.zeros((2, memory.shares_MK.shape[1]), dtype=np.int64)

    def predict(self, units_ND: Tensor, masks: Tensor) -> Tensor:
        """Shares (N, K) of the ids in the nearest cells of each cell."""
        cosine_Nk, near_Nk = self._nearest(units_ND)
        self._count(near_Nk[:, 0], masks, round((len(units_ND) / len(masks)) ** 0.5))
        weight_Nk = ((cosine_Nk - cosine_Nk[:, :1]) / self.config.temperature).exp()
        weight_Nk = weight_Nk / weight_Nk.sum(1, keepdim=True)
        return torch.einsum("nk,nkc->nc", weight_Nk, self.memory.shares_MK[near_Nk])

    def _nearest(self, units_ND: Tensor) -> tuple[Tensor, Tensor]:
        found = [
            (part_ND @ self.memory.units_MD.T).topk(self.k, dim=1)
            for part_ND in units_ND.split(CHUNK)
        ]
        return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])

    def _count(self, nearest_N: Tensor, masks: Tensor, grid: int) -> None:
        classes = self.right_2K.shape[1]
        true_N = cell_shares(masks, classes, grid).argmax(1).flatten().numpy()
        seen_N = self.memory.shares_MK.argmax(1)[nearest_N].cpu().numpy()
        self.right_2K[0] += np.bincount(true_N[seen_N == true_N], minlength=classes)
        self.right_2K[1] += np.bincount(true_N, minlength=classes)

    def precision(self) -> float:
        """Precision of the nearest cell, mean over the parts that occur; NaN without any."""
        right_P, all_P = self.right_2K[:, 1:]
        occurs_P = all_P > 0
        if not occurs_P.any():
            return float("nan")
        return float((right_P[occurs_P] / all_P[occurs_P]).mean())
