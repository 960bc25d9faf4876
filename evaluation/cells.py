"""Dense features on a grid of cells, with the share of each part in each cell.

Shapes: n images, B of a batch, g grid side, D channels, K ids with the background.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.features import check_finite, iterate_features, on_grid
from evaluation.masks import cell_shares, read_masks
from ssl_parts.data import ImageBank
from ssl_parts.encoders import Encoder


@dataclass(frozen=True)
class CellReader:
    """An encoder whose maps of some stages are read on one grid.

    stages: maps of a cell's feature, each resized bilinearly to the grid, concatenated. grid:
    cells per side.
    """

    encoder: Encoder
    stages: tuple[str, ...]
    grid: int
    batch: int = 64
    device: str | torch.device = "cpu"

    def iterate(
        self, bank: ImageBank, indices: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (positions, features (B, D, g, g)) per batch, in order.

        Raises:
            ConfigError: a stage that the encoder does not have. DataError: features that are not
                finite.
        """
        batches = iterate_features(
            self.encoder, bank, self.stages, indices, self.batch, self.device
        )
        for chunk, features in batches:
            map_BDgg = on_grid(features.maps, self.stages, self.grid)
            check_finite(map_BDgg, chunk, bank)
            yield chunk, map_BDgg

    def read_labelled(self, bank: ImageBank, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features (n, g*g, D) of the cells of these images, and the share (n, g*g, K) of each id.

        Raises:
            ConfigError, DataError: as `iterate`; an image without a part mask.
        """
        classes = len(bank.dataset.part_names) + 1
        shares_nKgg = cell_shares(read_masks(bank, indices), classes, self.grid).to(self.device)
        points = [
            map_BDgg.flatten(2).transpose(1, 2) for _, map_BDgg in self.iterate(bank, indices)
        ]
        return torch.cat(points).clone(), shares_nKgg.flatten(2).transpose(1, 2)
