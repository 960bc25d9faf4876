"""SLIC and Felzenszwalb's regions: masks from colour and place alone, as DetCon takes them (arXiv
2103.10957, section 3).

No encoder is asked, so they are the same in every round: the masks of a control that knows nothing
of parts.

Shapes: B images, HxW pixels, SxS grid, N = S*S cells.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.dense.features import Batch, FeatureSource
from ssl_parts.parts.methods.config import FelzenszwalbConfig, PartsConfig, SlicConfig
from ssl_parts.parts.methods.method import PartMethod


class Superpixels(PartMethod):
    """Segments of the whole photograph, read at the centres of the cells; the parts.k largest are
    kept.
    """

    def __init__(self, config: PartsConfig) -> None:
        self.size, self.k = config.size, config.k

    def assign(self, batch: Batch, source: FeatureSource, mask_BN: Tensor | None) -> Tensor:
        """Part ids (B, N), long: 0..k'-1 from large to small, and -1 outside the mask."""
        ids = []
        for b in range(batch.count):
            pixels_HW3 = batch.images[b].permute(1, 2, 0).cpu().numpy()
            labels_SS = at_centres(self.segment(pixels_HW3), self.size)
            inside_SS = None if mask_BN is None else mask_BN[b].view(self.size, -1).cpu().numpy()
            ids.append(torch.from_numpy(largest(labels_SS, self.k, inside_SS).reshape(-1)))
        filled = ids + ids[-1:] * (len(batch.images) - batch.count)
        return torch.stack(filled).to(batch.images.device)

    @abstractmethod
    def segment(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """Integer labels (H, W) of a uint8 photograph."""


class Slic(Superpixels):
    """SLIC (Achanta et al. 2012): compact k-means over colour and place; about parts.k segments of
    like size.
    """

    def __init__(self, config: SlicConfig, encoder: Encoder | None) -> None:
        super().__init__(config)
        self.config = config

    def segment(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """By scikit-image."""
        from skimage.segmentation import slic

        config = self.config
        return slic(pixels_HW3, config.k, config.compactness, sigma=config.sigma, start_label=0)


class Felzenszwalb(Superpixels):
    """Felzenszwalb & Huttenlocher (2004): regions merged over a graph of pixels; their number
    follows the image.
    """

    def __init__(self, config: FelzenszwalbConfig, encoder: Encoder | None) -> None:
        super().__init__(config)
        self.config = config

    def segment(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """By scikit-image."""
        from skimage.segmentation import felzenszwalb

        config = self.config
        least = round(config.least_share * pixels_HW3.shape[0] * pixels_HW3.shape[1])
        return felzenszwalb(pixels_HW3, config.scale, config.sigma, least)


def at_centres(labels_HW: np.ndarray, size: int) -> np.ndarray:
    """Labels (S, S) of the pixels in which the centres of the cells lie."""
    rows, columns = (
        ((np.arange(size) + 0.5) * side / size).astype(int) for side in labels_HW.shape
    )
    return labels_HW[rows[:, None], columns]


def largest(labels_SS: np.ndarray, k: int, inside_SS: np.ndarray | None = None) -> np.ndarray:
    """Ids int64 (S, S), 0..k'-1 by falling size: the k largest labels; cells of others take the
    nearest cell's id.

    Args:
        inside_SS: bool; cells outside count for nothing and get -1.
    """
    inside_SS = np.ones(labels_SS.shape, bool) if inside_SS is None else inside_SS
    found, sizes = np.unique(labels_SS[inside_SS], return_counts=True)
    kept = found[np.argsort(-sizes, kind="stable")][:k]
    id_of = np.full(labels_SS.max() + 1, -1, np.int64)
    id_of[kept] = np.arange(len(kept))
    ids_SS = np.where(inside_SS, id_of[labels_SS], -1)
    nearest: Any = distance_transform_edt(ids_SS < 0, return_distances=False, return_indices=True)
    return np.where(inside_SS, ids_SS[tuple(nearest)], -1)
