"""Boxes of mined objects and of their parts, for a whole batch on its own device (UPM, arXiv
1902.09941; docs/method.md, section 5).

The support map is that of `mining`; no label or box is used.

Shapes: B images, D channels, N = H*W positions of the map, P parts. Boxes are x0 y0 x1 y1 as
shares of the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.clustering.kmeans import kmeans
from ssl_parts.parts.foreground.mining import support_map
from ssl_parts.parts.refinement.components import largest_component

CHUNK_VALUES = 2**26  # of the co-occurrence matrices that are held at once
# the support map is interpolated to this many times the map's resolution before it is cut
FINER = 4


@dataclass(frozen=True)
class MinedObject:
    """What `mine_object` found in a batch, on a grid FINER times that of the map.

    boxes_B4: box of the object, the whole image where nothing was found. support_BHW: in [0,1],
    how many frequent pairs a position is in, by their counts, relative to the image's best.
    object_BHW: bool, the largest connected component. found_B: bool.
    """

    boxes_B4: Tensor
    support_BHW: Tensor
    object_BHW: Tensor
    found_B: Tensor


@torch.no_grad()
def mine_object(map_BDHW: Tensor, support: float = 0.3) -> MinedObject:
    """Find the object of each image in the feature map of a pretrained encoder.

    The support map (how much of the frequent pairs of positions runs through each), interpolated,
    is cut at the mean of its positive values; the largest 8-connected component is the object. The
    interpolation and the cut are reconstructed: they had the best CorLoc on the training boxes of
    CUB's first ten classes (benchmarks/mining.py).

    Args:
        map_BDHW: float, also (D,H,W) of one image.
        support: of a frequent pair, as a share of the image's largest support of one position, in
            (0,1].

    Raises:
        PartDiscoveryError: a support outside (0,1], a map of another shape or with NaN or
            infinity.
    """
    map_BDHW = map_BDHW[None] if map_BDHW.ndim == 3 else map_BDHW
    _check(map_BDHW, support)
    H, W = map_BDHW.shape[-2:]
    size = max(1, CHUNK_VALUES // (H * W) ** 2)
    with torch.autocast(map_BDHW.device.type, enabled=False):
        support_BHW = torch.cat([support_map(part, support) for part in map_BDHW.split(size)])
    support_BHW = F.interpolate(
        support_BHW[:, None], scale_factor=FINER, mode="bilinear", align_corners=False
    )[:, 0]
    frequent_BHW = support_BHW > 0
    mean_B = support_BHW.sum((1, 2)) / frequent_BHW.sum((1, 2)).clamp(min=1)
    object_BHW = largest_component(frequent_BHW & (support_BHW >= mean_B[:, None, None]))
    return MinedObject(boxes_of(object_BHW), support_BHW, object_BHW, object_BHW.flatten(1).any(1))


def boxes_of(mask_BHW: Tensor) -> Tensor:
    """Box (B,4) around each mask, to the far edges of its cells; the whole image where a mask is
    empty.
    """
    sides = []
    for line_BN in (mask_BHW.any(1), mask_BHW.any(2)):  # columns, rows
        n = line_BN.shape[1]
        first = line_BN.float().argmax(1)
        last = n - line_BN.flip(1).float().argmax(1)
        sides.append((first / n, last / n))
    (x0, x1), (y0, y1) = sides
    whole = torch.stack(
        [torch.zeros_like(x0), torch.zeros_like(x0), torch.ones_like(x0), torch.ones_like(x0)], 1
    )
    return torch.where(
        mask_BHW.flatten(1).any(1, keepdim=True), torch.stack([x0, y0, x1, y1], 1), whole
    )


@torch.no_grad()
def part_boxes(
    map_BDHW: Tensor,
    mined: MinedObject,
    parts: int = 2,
    gamma: float = 0.5,
    side: float = 0.5,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Boxes around the parts of mined objects, (B,P,4), and which of them there are, (B,P) bool.

    The cells that the object covers, weighted by how far, are clustered by k-means on
    [L2-normalised feature; gamma (x/W, y/H)]; each box is a square of `side` times the object's
    longer side around the centre of one cluster. Parts are in order of falling mean support, which
    neither a flip nor a shift changes. An object with fewer cells than parts has invalid boxes,
    the object's own.

    Raises:
        PartDiscoveryError: no part asked for, or a map that is not finite.
    """
    if parts < 1:
        raise PartDiscoveryError(f"parts={parts}: at least one is needed")
    B, _, H, W = map_BDHW.shape
    points_BN2 = cell_centres(H, W, map_BDHW.device).expand(B, -1, -1)
    features_BND = F.normalize(map_BDHW.float().flatten(2).transpose(1, 2), dim=-1)
    covered_BN = F.avg_pool2d(mined.object_BHW[:, None].float(), FINER).flatten(1)
    enough_B = (covered_BN > 0).sum(1) >= parts
    if parts > H * W:
        none_BP = torch.zeros(B, parts, dtype=torch.bool, device=map_BDHW.device)
        return mined.boxes_B4[:, None].repeat(1, parts, 1), none_BP
    # Images without enough cells are clustered as a whole, to keep the batch's shape, and their
    # parts declared invalid.
    weights_BN = torch.where(enough_B[:, None], covered_BN, 1)
    clusters = kmeans(
        torch.cat([features_BND, gamma * points_BN2], 2), parts, seed, weights_BN=weights_BN
    )
    boxes_BP4, support_BP = _boxes_of_clusters(
        clusters.ids_BN, weights_BN, mined, points_BN2, parts, side
    )
    valid_BP = (support_BP >= 0) & enough_B[:, None]
    boxes_BP4 = torch.where(valid_BP[..., None], boxes_BP4, mined.boxes_B4[:, None])
    order_BP = torch.where(valid_BP, support_BP, -1).argsort(dim=1, descending=True, stable=True)
    return boxes_BP4.gather(1, order_BP[..., None].expand(-1, -1, 4)), valid_BP.gather(1, order_BP)


def _boxes_of_clusters(
    ids_BN: Tensor,
    weights_BN: Tensor,
    mined: MinedObject,
    points_BN2: Tensor,
    parts: int,
    side: float,
) -> tuple[Tensor, Tensor]:
    """Squares around the clusters' centres (B,P,4) and their mean support (B,P), -1 for a cluster
    that is not there.
    """
    member_BPN = ids_BN[:, None] == torch.arange(parts, device=ids_BN.device)[:, None]
    weight_BPN = member_BPN * weights_BN[:, None]
    weight_BPN = weight_BPN / weight_BPN.sum(2, keepdim=True).clamp(min=1e-12)
    support_BN = F.avg_pool2d(mined.support_BHW[:, None], FINER).flatten(1)
    with torch.autocast(ids_BN.device.type, enabled=False):
        centres_BP2 = weight_BPN @ points_BN2
    support_BP = (weight_BPN * support_BN[:, None]).sum(2)
    return _squares(centres_BP2, mined.boxes_B4, side), torch.where(
        member_BPN.any(2), support_BP, -1
    )


def cell_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(H*W, 2) centres x, y of cells as shares of the image, row-major."""
    y_H, x_W = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))
    return torch.stack(torch.meshgrid(x_W, y_H, indexing="xy"), -1).flatten(0, 1)


def _squares(centres_BP2: Tensor, boxes_B4: Tensor, share: float) -> Tensor:
    half_B = (boxes_B4[:, 2:] - boxes_B4[:, :2]).amax(1) * share / 2
    half_B11 = half_B.clamp(max=0.5)[:, None, None]
    centres_BP2 = torch.minimum(torch.maximum(centres_BP2, half_B11), 1 - half_B11)
    return torch.cat([centres_BP2 - half_B11, centres_BP2 + half_B11], -1)


def _check(map_BDHW: Tensor, support: float) -> None:
    if map_BDHW.ndim != 4 or min(map_BDHW.shape) < 1:
        raise PartDiscoveryError(
            f"mining needs a map (B,D,H,W) or (D,H,W), not of shape {tuple(map_BDHW.shape)}"
        )
    if not 0 < support <= 1:
        raise PartDiscoveryError(f"support={support}: a share in (0, 1] is needed")
    if not bool(torch.isfinite(map_BDHW).all()):
        raise PartDiscoveryError(
            "the map to mine has NaN or infinity: check the encoder's weights and precision"
        )
