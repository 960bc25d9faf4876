"""What k-means needs of its points: products with centroids, and sums of clusters. Not the points
themselves.

A hypercolumn is made of small maps, resized. Products with a centroid and means of clusters
commute with resizing, so they are computed on the small maps: a 7 x 7 x 2048 map under 64 x 64
points costs a fortieth. Exact, and no wide point is made.

Shapes: B images, N = S*S points in row-major order, D channels, K vectors per image, h x w cells of
a map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.parts.dense.hypercolumn import bilinear_weights, resize, resized_norms
from ssl_parts.parts.dense.isometry import isometric

# a map with so many times more channels than cells is replaced by its isometric coordinates
FEWER = 8


@dataclass(frozen=True)
class DenseBlock:
    """Points as they are, (B, N, D)."""

    points_BND: Tensor

    @property
    def channels(self) -> int:
        """D."""
        return self.points_BND.shape[2]

    def products(self, vectors_BKD: Tensor) -> Tensor:
        """Inner products (B, K, N) with the points."""
        return vectors_BKD @ self.points_BND.transpose(1, 2)

    def sums(self, weights_BKN: Tensor) -> Tensor:
        """Weighted sums (B, K, D) of the points."""
        return weights_BKN @ self.points_BND

    def at(self, indices_BT: Tensor) -> Tensor:
        """The points (B, T, D) of these indices."""
        rows_B1 = torch.arange(len(indices_BT), device=indices_BT.device)[:, None]
        return self.points_BND[rows_B1, indices_BT]

    def values(self, vectors: int) -> int:
        """Numbers per image that products with so many vectors touch."""
        return self.points_BND.shape[1] * self.channels

    def without(self, left_out_BN: Tensor) -> "DenseBlock":
        """The same with these points set to zero."""
        return DenseBlock(self.points_BND.masked_fill(left_out_BN[..., None], 0))

    def rows(self, chosen: Tensor | slice) -> "DenseBlock":
        """Some of the images."""
        return DenseBlock(self.points_BND[chosen])


@dataclass(frozen=True)
class ResizedBlock:
    """Points that are a map resized bilinearly, each times a factor: scale_BN * (up_Sh map_Dhw
    up_Sw^T).
    """

    map_BDn: Tensor  # n = h * w
    up_Sh: Tensor
    up_Sw: Tensor
    scale_BN: Tensor

    @property
    def channels(self) -> int:
        """D."""
        return self.map_BDn.shape[1]

    def products(self, vectors_BKD: Tensor) -> Tensor:
        """Inner products (B, K, N) with the points."""
        small_BKhw = (vectors_BKD @ self.map_BDn).unflatten(
            2, (self.up_Sh.shape[1], self.up_Sw.shape[1])
        )
        wide_BKSS = self.up_Sh @ (small_BKhw @ self.up_Sw.T)
        return wide_BKSS.flatten(2).mul_(self.scale_BN[:, None])

    def sums(self, weights_BKN: Tensor) -> Tensor:
        """Weighted sums (B, K, D) of the points."""
        wide_BKSS = (weights_BKN * self.scale_BN[:, None]).unflatten(
            2, (len(self.up_Sh), len(self.up_Sw))
        )
        small_BKhw = self.up_Sh.T @ wide_BKSS @ self.up_Sw  # rows first: four times as fast
        return small_BKhw.flatten(2) @ self.map_BDn.transpose(1, 2)

    def at(self, indices_BT: Tensor) -> Tensor:
        """The points (B, T, D) of these indices."""
        of_row_BTh, of_column_BTw = (
            self.up_Sh[indices_BT // len(self.up_Sw)],
            self.up_Sw[indices_BT % len(self.up_Sw)],
        )
        taps_BTn = (of_row_BTh[..., None] * of_column_BTw[..., None, :]).flatten(2)
        return (
            taps_BTn @ self.map_BDn.transpose(1, 2) * self.scale_BN.gather(1, indices_BT)[..., None]
        )

    def values(self, vectors: int) -> int:
        """Numbers per image that products with so many vectors touch."""
        return self.channels * self.map_BDn.shape[2] + vectors * self.scale_BN.shape[1]

    def without(self, left_out_BN: Tensor) -> "ResizedBlock":
        """The same with these points set to zero."""
        return replace(self, scale_BN=self.scale_BN.masked_fill(left_out_BN, 0))

    def rows(self, chosen: Tensor | slice) -> "ResizedBlock":
        """Some of the images."""
        return replace(self, map_BDn=self.map_BDn[chosen], scale_BN=self.scale_BN[chosen])


@dataclass(frozen=True)
class Points:
    """Blocks of channels, one beside the other; mean_B1D is taken off every point."""

    blocks: Sequence[DenseBlock | ResizedBlock]
    norms_BN: Tensor  # squared lengths, of the points less the mean
    mean_B1D: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, N, D)."""
        B, N = self.norms_BN.shape
        return B, N, sum(block.channels for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the points are."""
        return self.norms_BN.device

    def rows(self, chosen: Tensor | slice) -> "Points":
        """Some of the images."""
        return Points([block.rows(chosen) for block in self.blocks], self.norms_BN[chosen])

    def values(self, vectors: int) -> int:
        """Numbers per image that products with so many vectors touch."""
        return sum(block.values(vectors) for block in self.blocks)

    def without(self, left_out_BN: Tensor) -> "Points":
        """The same, with the points left out set to zero, whatever they were: NaN, for one."""
        blocks = [block.without(left_out_BN) for block in self.blocks]
        return replace(self, blocks=blocks, norms_BN=self.norms_BN.masked_fill(left_out_BN, 0))

    def products(self, vectors_BKD: Tensor) -> Tensor:
        """Inner products (B, K, N) with the points."""
        parts = vectors_BKD.split([block.channels for block in self.blocks], 2)
        total_BKN = self.blocks[0].products(parts[0])
        for block, part_BKD in zip(self.blocks[1:], parts[1:]):
            total_BKN += block.products(part_BKD)
        return (
            total_BKN if self.mean_B1D is None else total_BKN.sub_(vectors_BKD @ self.mean_B1D.mT)
        )

    def sums(self, weights_BKN: Tensor) -> Tensor:
        """Weighted sums (B, K, D) of the points."""
        total_BKD = torch.cat([block.sums(weights_BKN) for block in self.blocks], 2)
        return (
            total_BKD
            if self.mean_B1D is None
            else total_BKD.sub_(weights_BKN.sum(2, keepdim=True) * self.mean_B1D)
        )

    def at(self, indices_BT: Tensor) -> Tensor:
        """The points (B, T, D) of these indices."""
        points_BTD = torch.cat([block.at(indices_BT) for block in self.blocks], 2)
        return points_BTD if self.mean_B1D is None else points_BTD - self.mean_B1D

    def centred(self, weights_BN: Tensor) -> tuple["Points", Tensor]:
        """The points less their weighted mean, and that (B, 1, D): squared distances lose no
        digits to an offset.
        """
        mean_B1D = self.sums(weights_BN[:, None]) / weights_BN.sum(1)[:, None, None]
        if len(self.blocks) == 1 and isinstance(self.blocks[0], DenseBlock):
            points_BND = self.blocks[0].points_BND - mean_B1D
            return dense_points(points_BND), mean_B1D
        offset_BN = self.products(mean_B1D)[:, 0]
        norms_BN = (
            self.norms_BN - 2 * offset_BN + mean_B1D.square().sum((1, 2))[:, None]
        ).clamp_min_(0)
        return Points(self.blocks, norms_BN, mean_B1D), mean_B1D


def dense_points(points_BND: Tensor) -> Points:
    """Points that are there already."""
    return Points([DenseBlock(points_BND)], points_BND.square().sum(-1))


def hypercolumn_points(
    maps: Mapping[str, Tensor], size: int, normalize: bool = True, place_BN2: Tensor | None = None
) -> Points:
    """`hypercolumn(maps, size, normalize)` (and the place beside it) without making it; the same
    inner products.
    """
    made = [_block_of_map(map_BDhw.float(), size, normalize) for map_BDhw in maps.values()]
    if place_BN2 is not None:
        made.append((DenseBlock(place_BN2), place_BN2.square().sum(2)))
    return Points([block for block, _ in made], torch.stack([norms for _, norms in made]).sum(0))


def append_place(points_BND: Tensor, weight: float) -> Tensor:
    """Points with (x, y) of their cell in 0..1 times `weight` behind their channels (B, N, D+2); as
    they are for weight 0.
    """
    if weight == 0:
        return points_BND
    B, N, _ = points_BND.shape
    along_S = (torch.arange(round(N**0.5), device=points_BND.device) + 0.5) / round(N**0.5)
    place_N2 = torch.stack(torch.meshgrid(along_S, along_S, indexing="xy"), -1).view(N, 2)
    return torch.cat([points_BND, (weight * place_N2).expand(B, N, 2)], 2)


def _block_of_map(
    map_BDhw: Tensor, size: int, normalize: bool
) -> tuple[DenseBlock | ResizedBlock, Tensor]:
    """A resized map as a block, and the squared lengths (B, N) of its points."""
    _, D, h, w = map_BDhw.shape
    # the small map costs as much as the points
    if D * (size**2 - h * w) <= size * (h * w + size * h):
        points_BND = resize(map_BDhw, size).flatten(2).transpose(1, 2)
        dense = DenseBlock(F.normalize(points_BND, dim=2) if normalize else points_BND)
        return dense, dense.points_BND.square().sum(2)
    map_BDhw = isometric(map_BDhw) if h * w * FEWER <= D else map_BDhw
    length_BN = resized_norms(map_BDhw, size).flatten(1)
    scale_BN = 1 / length_BN if normalize else torch.ones_like(length_BN)
    up_Sh, up_Sw = (bilinear_weights(cells, size, map_BDhw.device) for cells in (h, w))
    resized = ResizedBlock(map_BDhw.flatten(2), up_Sh, up_Sw, scale_BN)
    return resized, (length_BN * scale_BN).square()
