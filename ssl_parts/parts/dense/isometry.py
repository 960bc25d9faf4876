"""Fewer channels, the same geometry: k-means needs distances between points, not the points'
original axes.

Shapes: B images, n = h*w vectors of a map, D channels, r coordinates, d kept directions.
"""

import torch
from torch import Tensor

# Eigenvalues under this share of the largest are rounding in the float64 Gram matrix of float32
# features.
RANK_TOLERANCE = 1e-12


def isometric(map_BDHW: Tensor) -> Tensor:
    """Coordinates (B, min(n, D), h, w) whose inner products, within each image, are those of the
    map's vectors.

    An upsampled map lives in the span of its n low-resolution vectors, so when n < D (a 7x7x2048
    map: 49 against 2048) everything that follows and only uses sums and inner products (bilinear
    upsampling, L2 normalisation, k-means) gives the same result on these coordinates: Gram matrix
    G = V V^T = L L^T (Cholesky), coordinates L; where G is not positive definite beyond rounding,
    G = Q diag(e) Q^T and Q sqrt(e). A map with n >= D comes back as it is.
    """
    B, D, h, w = map_BDHW.shape
    n = h * w
    if n >= D:
        return map_BDHW.float()
    vectors_BDn = map_BDHW.flatten(2).double()
    # one by one: no dependence on the batch
    coordinates = [_coordinates(vectors_Dn) for vectors_Dn in vectors_BDn]
    return torch.stack(coordinates).transpose(1, 2).reshape(B, n, h, w).float()


def _coordinates(vectors_Dn: Tensor) -> Tensor:
    gram_nn = vectors_Dn.T @ vectors_Dn
    lower_nn, failed = torch.linalg.cholesky_ex(gram_nn)
    if (
        not bool(failed)
        and lower_nn.diagonal().amin() > RANK_TOLERANCE**0.5 * lower_nn.diagonal().amax()
    ):
        return lower_nn
    values_n, directions_nn = torch.linalg.eigh(gram_nn)
    values_n = torch.where(values_n > RANK_TOLERANCE * values_n[-1], values_n, 0)
    return directions_nn.flip(1) * values_n.flip(0).sqrt()


def principal_directions(points_MND: Tensor, dims: int) -> tuple[Tensor, float]:
    """The directions that keep most of the variance *within* images, and the share they keep.

    k-means of one image sees differences inside that image only, so each image's mean is taken off
    before the covariances of the M images are added up. Beyond exact: distances shrink by what the
    other directions held.

    Args:
        points_MND: N points of each of M images.
        dims: d, at most; directions without variance are left out.

    Returns:
        (D, d) orthonormal columns, float32, and a share in 0..1.
    """
    centred_MND = points_MND.double() - points_MND.double().mean(1, keepdim=True)
    covariance_DD = centred_MND.new_zeros(points_MND.shape[2], points_MND.shape[2])
    for image_ND in centred_MND:
        covariance_DD += image_ND.T @ image_ND
    values_D, directions_DD = torch.linalg.eigh(covariance_DD)
    shares_D = values_D.flip(0).cumsum(0) / values_D.sum().clamp_min(1e-300)
    dims = min(dims, len(values_D), 1 + int((shares_D < 1).sum()))
    share = float(values_D[-dims:].sum() / values_D.sum().clamp_min(1e-300))
    return directions_DD[:, -dims:].flip(1).float().contiguous(), share
