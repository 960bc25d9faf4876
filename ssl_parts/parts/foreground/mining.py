"""Pattern mining on the activations of a CNN: the object without any annotation (UPM,
docs/method.md, section 5).

Reconstructed from the abstract of arXiv 1902.09941 and the mining rule of its sibling 1902.09968:
a channel is a transaction, the cells that it activates above its image's mean positive activation
are its items, and cells that many channels activate together are the object. Itemsets of two are
exact, from the co-occurrence matrix. `mined_boxes` makes boxes of objects and parts from it; as
parts/foreground=mining it says what any discovery clusters.

Shapes: B images, D channels, h x w map, N = h*w cells.
"""

import torch
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, PixelGrid
from ssl_parts.parts.dense.hypercolumn import resize
from ssl_parts.parts.foreground.config import MiningConfig
from ssl_parts.parts.foreground.foreground import ScoredForeground
from ssl_parts.parts.foreground.scores import to_mask
from ssl_parts.parts.refinement.components import largest_component


class MiningForeground(ScoredForeground):
    """The largest connected area of cells that many channels activate together, in one map."""

    def __init__(
        self, config: MiningConfig, encoder: Encoder | None, dense: DenseConfig, size: int
    ) -> None:
        super().__init__(config, encoder, dense, size)
        self.config = config
        if encoder is not None and not config.stages and not dense.inside_block:
            self.stages = (encoder.last_stage,)
            self.grid = PixelGrid(self.stages, config.size)

    def mask(self, batch: Batch, source: FeatureSource) -> Tensor | None:
        """The largest connected area (4-neighbours) of each image's positive scores."""
        mask_BSS = to_mask(self.scores(batch), self.size, self.config.least_share)
        mask_BSS = mask_BSS.unflatten(1, (self.size, self.size))
        return largest_component(mask_BSS, diagonals=False).flatten(1)

    def scores(self, batch: Batch) -> Tensor:
        """Support above the image's mean (B, G*G), smoothed."""
        map_BDhw = resize(batch.maps[self.stages[-1]].float(), self.config.size)
        return self.smoothed(mining_scores(map_BDhw, self.config.support), self.grid.vectors(batch))


def transactions(map_BDhw: Tensor) -> Tensor:
    """Which cells each channel contains: bool (B, D, N), activation above the mean of the image's
    positive ones.
    """
    values_BDN = map_BDhw.flatten(2).float()
    positive_BDN = values_BDN > 0
    mean_B = (values_BDN * positive_BDN).sum((1, 2)) / positive_BDN.sum((1, 2)).clamp_min(1)
    return values_BDN > mean_B[:, None, None].clamp_min(0)


def pair_support(items_BDN: Tensor) -> Tensor:
    """Share of the channels that contain both cells: float (B, N, N)."""
    items_BDN = items_BDN.float()
    return items_BDN.transpose(1, 2) @ items_BDN / items_BDN.shape[1]


def support_map(map_BDhw: Tensor, min_support: float) -> Tensor:
    """How much of the frequent pairs runs through each cell: float (B, h, w), each image's largest
    value 1.

    A pair of cells is frequent in an image when its support is at least `min_support` times the
    image's largest support of a single cell. Zero where no pair is frequent.
    """
    support_BNN = pair_support(transactions(map_BDhw))
    largest_B = support_BNN.diagonal(dim1=1, dim2=2).amax(1)
    pairs_BNN = torch.where(support_BNN >= min_support * largest_B[:, None, None], support_BNN, 0)
    pairs_BNN = pairs_BNN - torch.diag_embed(pairs_BNN.diagonal(dim1=1, dim2=2))
    mass_BN = pairs_BNN.sum(2)
    return (mass_BN / mass_BN.amax(1, keepdim=True).clamp_min(1e-12)).unflatten(
        1, map_BDhw.shape[-2:]
    )


def mining_scores(map_BDhw: Tensor, min_support: float) -> Tensor:
    """Scores (B, N), positive where a cell's support is above its image's mean."""
    support_BN = support_map(map_BDhw, min_support).flatten(1)
    return support_BN - support_BN.mean(1, keepdim=True)
