"""The explicit equivariance term: parts move with the image (ours, beside PARTICLE).

Shapes: B images, N = 2B views, K part ids, D channels, HxW feature grid, C = HW cells, hxw grid of
the ids.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_parts.objectives.gather import average_over_processes
from ssl_parts.objectives.network import split_views
from ssl_parts.objectives.pooling import vote_ids
from ssl_parts.views import relate_theta


class Equivariance(nn.Module):
    r"""Distance between the part assignments of two views, after undoing the crop and flip between
    them.

    Each cell :math:`x` of view :math:`v` belongs to the K parts of its image by

    .. math::
        a_v(x) = \mathrm{softmax}_k (\cos(f_v(x) - m, c_k) / \tau)

    where :math:`m` is the mean over all cells of both views (what all cells share tells no parts
    apart) and :math:`c_k` the mean direction of :math:`f - m` in the cells of part k; both without
    gradient, absent parts have no share. With :math:`T` taking a place of view v to the same place
    of the image in view w, sampled bilinearly,

    .. math::
        L = \tfrac12 \, \mathrm{mean}_{v,\,x:\,T x \in w} \; \lVert a_v(x) - a_w(T x) \rVert^2 \in
        [0, 1]

    Zero when the assignment moves with the image, 1 when no overlapping cell keeps its part. The
    mean is over all overlapping cells of all processes; views that do not overlap give zero. The
    trivial solution (all cells alike) is what part contrast forbids: this term is no objective on
    its own.

    Reconstructed from the abstract of PARTICLE (arXiv 2309.13822), which names equivariance but no
    such term.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, map_NDHW: Tensor, ids_Nhw: Tensor, theta_N23: Tensor, k: int) -> Tensor:
        """Compute the term: a scalar in fp32; gradient flows into the maps of both views.

        Args:
            map_NDHW: dense features of both views, stacked.
            ids_Nhw: their part ids, long, on any grid.
            theta_N23: their crops and flips, output to input coordinates.
            k: number of part ids.
        """
        with torch.autocast(map_NDHW.device.type, enabled=False):
            ids_NHW = vote_ids(ids_Nhw, k, (map_NDHW.shape[-2], map_NDHW.shape[-1]))
            one, two = split_views(assign_parts(map_NDHW.float(), ids_NHW, k, self.temperature))
            theta_one, theta_two = split_views(theta_N23)
            first = measure_distance(one, two, relate_theta(theta_two, theta_one))
            second = measure_distance(two, one, relate_theta(theta_one, theta_two))
            return average_over_processes(first[0] + second[0], first[1] + second[1])


def assign_parts(map_NDHW: Tensor, ids_NHW: Tensor, k: int, temperature: float) -> Tensor:
    """Assign each cell to the parts of its image: shares (N,K,H,W) that sum to 1 over K."""
    map_NDC = map_NDHW.flatten(2)
    mean_BD1 = 0.5 * _add_views(map_NDC.detach().mean(2, keepdim=True))
    unit_NDC = F.normalize(map_NDC - torch.cat([mean_BD1, mean_BD1]), dim=1)
    one_hot_NCK = F.one_hot(ids_NHW.flatten(1), k).to(unit_NDC.dtype)
    sums_BKD = _add_views(torch.einsum("ndc,nck->nkd", unit_NDC.detach(), one_hot_NCK))
    area_BK = _add_views(one_hot_NCK.sum(1))
    centre_NKD = F.normalize(torch.cat([sums_BKD, sums_BKD]), dim=-1)
    absent_NK1 = torch.cat([area_BK, area_BK]).unsqueeze(-1) == 0
    logits_NKC = torch.einsum("nkd,ndc->nkc", centre_NKD, unit_NDC) / temperature
    shares_NKC = logits_NKC.masked_fill(absent_NK1, -torch.inf).softmax(1)
    return shares_NKC.unflatten(2, map_NDHW.shape[-2:])


def measure_distance(
    mine_BKHW: Tensor, other_BKHW: Tensor, theta_B23: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum half the squared distance over the cells that the other view sees, and count these.

    Args:
        mine_BKHW, other_BKHW: part assignments of my view and of the other.
        theta_B23: takes coordinates of my view to those of the other.
    """
    grid_BHW2 = F.affine_grid(theta_B23, list(mine_BKHW.shape), align_corners=False)
    moved_BKHW = F.grid_sample(other_BKHW, grid_BHW2, padding_mode="border", align_corners=False)
    seen_BHW = (grid_BHW2.abs() <= 1).all(-1)
    distance_BHW = 0.5 * (mine_BKHW - moved_BKHW).square().sum(1)
    return (distance_BHW * seen_BHW).sum(), seen_BHW.sum().to(distance_BHW.dtype)


def _add_views(stacked_N: Tensor) -> Tensor:
    one, two = split_views(stacked_N)
    return one + two
