"""Pixel embeddings: the maps of several stages at one size, one above the other.

Shapes: B images, D channels of a map, S size of the grid, N = S*S points in row-major order, d
projected channels.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.errors import ConfigError

EPSILON = 1e-12

Maps = Mapping[str, Tensor] | Sequence[Tensor]


def hypercolumn(maps: Maps, size: int, normalize: bool = True) -> Tensor:
    """Each map resized bilinearly to S x S, scaled to unit length over its channels, concatenated.

    Sources: Hariharan et al., arXiv 1411.5752; with these steps the released code of PARTICLE, arXiv
    2309.13822, section 3. `points.hypercolumn_points` implies the same points without making them.

    Args:
        maps: (B,D,h,w) each, of any sizes.
        size: S.
        normalize: unit length for each map's part of each point.

    Returns:
        Points (B, S*S, sum of D), float32, rows of the grid one after the other.

    Raises:
        ConfigError: no map, or a size under 1.

    Example:
        >>> import torch
        >>> fine, coarse = torch.rand(2, 16, 14, 14), torch.rand(2, 32, 7, 7)
        >>> points = hypercolumn([fine, coarse], size=8)
        >>> points.shape
        torch.Size([2, 64, 48])
        >>> round(points[0, 0, :16].norm().item(), 3)  # of each map's part
        1.0
    """
    ordered = _ordered(maps)
    if len(ordered) == 0 or size < 1:
        raise ConfigError(
            f"a hypercolumn needs at least one map and a size of at least 1, got {len(ordered)} and "
            f"{size}"
        )
    resized = [resize(m.float(), size) for m in ordered]
    if normalize:
        resized = [F.normalize(m, dim=1, eps=EPSILON) for m in resized]
    return torch.cat([m.flatten(2).transpose(1, 2) for m in resized], dim=2)


def projected_hypercolumn(
    maps: Maps, size: int, basis_Dd: Tensor, normalize: bool = True
) -> Tensor:
    """`hypercolumn(maps, size, normalize) @ basis_Dd` (B, S*S, d) without making the wide points.

    The projection commutes with resizing, so it is done on the small maps; the norms that
    normalisation needs come from inner products of neighbouring vectors.
    """
    ordered = _ordered(maps)
    rows = basis_Dd.split([m.shape[1] for m in ordered])
    total_BdSS = _projected_map(ordered[0], size, rows[0], normalize)
    for map_BDHW, rows_Dd in zip(ordered[1:], rows[1:]):
        total_BdSS.add_(_projected_map(map_BDHW, size, rows_Dd, normalize))
    return total_BdSS.flatten(2).transpose(1, 2)


def _projected_map(map_BDHW: Tensor, size: int, rows_Dd: Tensor, normalize: bool) -> Tensor:
    """One map's share (B,d,S,S) of the projection."""
    map_BDHW = map_BDHW.float()
    # channels last
    small_BdHW = (map_BDHW.flatten(2).mT @ rows_Dd).mT.unflatten(2, map_BDHW.shape[-2:])
    part_BdSS = resize(small_BdHW, size)
    return part_BdSS / resized_norms(map_BDHW, size) if normalize else part_BdSS


def _ordered(maps: Maps) -> list[Tensor]:
    return list(maps.values()) if isinstance(maps, Mapping) else list(maps)


def resize(map_BDHW: Tensor, size: int) -> Tensor:
    """Bilinear to S x S (corners not aligned); a map of that size comes back untouched."""
    if map_BDHW.shape[-2:] == (size, size):
        return map_BDHW
    map_BDHW = map_BDHW.contiguous(memory_format=torch.channels_last)  # many times faster on a CPU
    return F.interpolate(map_BDHW, size=(size, size), mode="bilinear", align_corners=False)


def resized_norms(map_BDHW: Tensor, size: int) -> Tensor:
    """L2 norms (B,1,S,S) of the bilinearly resized map's vectors, from the small map's inner
    products.

    A resized vector is a weighted sum of at most 2 x 2 neighbours, so its squared norm needs the
    inner products of each vector with itself, its right, lower and two diagonal neighbours.
    """
    if map_BDHW.shape[-2:] == (size, size):
        return map_BDHW.norm(dim=1, keepdim=True).clamp_min(EPSILON)
    low_y, high_y, ty = _corners(map_BDHW.shape[-2], size, map_BDHW.device)
    low_x, high_x, tx = _corners(map_BDHW.shape[-1], size, map_BDHW.device)
    # one by one: the products of all do not fit a cache
    products = [_neighbours(map_DHW) for map_DHW in map_BDHW]
    own, beside, below, falling, rising = (torch.stack(p) for p in zip(*products))

    def at(products: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return products[:, y][:, :, x]

    ty, tx = ty[:, None], tx[None, :]
    sy, sx = 1 - ty, 1 - tx
    squared = (sy * sx) ** 2 * at(own, low_y, low_x) + (sy * tx) ** 2 * at(own, low_y, high_x)
    squared = (
        squared + (ty * sx) ** 2 * at(own, high_y, low_x) + (ty * tx) ** 2 * at(own, high_y, high_x)
    )
    across = sy**2 * at(beside, low_y, low_x) + ty**2 * at(beside, high_y, low_x)
    along = sx**2 * at(below, low_y, low_x) + tx**2 * at(below, low_y, high_x)
    crossed = at(falling, low_y, low_x) + at(rising, low_y, low_x)
    squared = squared + 2 * (sx * tx * across + sy * ty * along + sy * ty * sx * tx * crossed)
    return squared.clamp_min(0).sqrt().clamp_min(EPSILON)[:, None]


def _neighbours(map_DHW: Tensor) -> tuple[Tensor, ...]:
    """Inner products (H,W) of each vector with itself, its right, its lower and its lower right
    neighbour, and of the right with the lower one. The last row and column are their own
    neighbours, as resizing clamps there.
    """
    own = (map_DHW * map_DHW).sum(0)
    beside = torch.cat([(map_DHW[..., 1:] * map_DHW[..., :-1]).sum(0), own[:, -1:]], 1)
    below = torch.cat([(map_DHW[:, 1:] * map_DHW[:, :-1]).sum(0), own[-1:]], 0)
    crossed = [
        (map_DHW[:, 1:, 1:] * map_DHW[:, :-1, :-1]).sum(0),
        (map_DHW[:, :-1, 1:] * map_DHW[:, 1:, :-1]).sum(0),
    ]
    falling, rising = (
        torch.cat([torch.cat([c, below[:-1, -1:]], 1), beside[-1:]], 0) for c in crossed
    )
    return own, beside, below, falling, rising


def bilinear_weights(length: int, size: int, device: torch.device) -> Tensor:
    """Matrix (S, length) that resizes one axis as `resize` does."""
    low_S, high_S, weight_S = _corners(length, size, device)
    rows_S = torch.arange(size, device=device)
    weights = torch.zeros(size, length, device=device)
    weights[rows_S, low_S] = 1 - weight_S
    return weights.index_put_((rows_S, high_S), weight_S, accumulate=True)


def _corners(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lower neighbour, upper neighbour and weight of the upper one, for each of S output
    positions.
    """
    position = ((torch.arange(size, device=device) + 0.5) * (length / size) - 0.5).clamp_min(0)
    low = position.floor().long().clamp_max(length - 1)
    return low, (low + 1).clamp_max(length - 1), (position - low).float()
