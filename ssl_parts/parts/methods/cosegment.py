"""Co-segmentation of groups of images (PARTICLE's transformer path, arXiv 2309.13822, section 3,
after Amir et al., arXiv 2112.05814; docs/method.md, section 1.3).

Shapes: B images, L labels with the background's, S size of the grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.dense.features import Batch
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.methods.config import CosegmentConfig
from ssl_parts.parts.methods.dataset import DatasetClustering
from ssl_parts.parts.refinement.crf import label_costs, mean_field


class Cosegmentation(DatasetClustering):
    """One clustering per group of images; a CRF corrects ids at colour edges."""

    def __init__(self, config: CosegmentConfig, encoder: Encoder | None) -> None:
        super().__init__(config, encoder)
        self.cosegment, self.group = config, config.group

    @property
    def scope(self) -> str:
        """An id means nothing in another group."""
        return "image" if self.group else "dataset"

    def refine(self, ids_BSS: Tensor, batch: Batch, foreground: Foreground) -> Tensor:
        """Ids after the CRF, which starts from distances to centroids where background has them,
        else from the ids.
        """
        config = self.cosegment
        if config.crf.iterations == 0:
            return ids_BSS
        behind_BSS = foreground.background_costs(batch)
        if behind_BSS is not None:
            costs_BLSS = torch.cat([behind_BSS[:, None], self.costs(batch)], 1)
        else:
            costs_BLSS = label_costs(ids_BSS, config.ids, config.crf.certainty)
        grid = (config.size, config.size)
        pixels_B3SS = F.interpolate(batch.images.float(), size=grid, mode="area")
        return mean_field(costs_BLSS, pixels_B3SS, config.crf).argmax(1)
