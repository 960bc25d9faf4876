"""Clean-up of id maps: connected components."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def remove_islands(ids_BHW: Tensor, smallest: int) -> Tensor:
    """Connected areas (4-neighbours) of fewer than `smallest` cells take the id of the nearest
    cell that stays.

    An image in which nothing would stay is left as it is.
    """
    return torch.stack(
        [torch.from_numpy(_without_islands(ids_HW.numpy(), smallest)) for ids_HW in ids_BHW]
    )


def _without_islands(ids_HW: np.ndarray, smallest: int) -> np.ndarray:
    stays_HW = np.zeros(ids_HW.shape, bool)
    for i in np.unique(ids_HW):
        areas_HW, _ = ndimage.label(ids_HW == i)
        stays_HW |= (np.bincount(areas_HW.ravel())[areas_HW] >= smallest) & (areas_HW > 0)
    if stays_HW.all() or not stays_HW.any():
        return ids_HW
    nearest = ndimage.distance_transform_edt(~stays_HW, return_distances=False, return_indices=True)
    return ids_HW[tuple(nearest)]


def largest_component(mask_HW: np.ndarray) -> np.ndarray:
    """The largest connected area (4-neighbours) of a bool mask; an empty mask stays empty."""
    areas_HW, count = ndimage.label(mask_HW)
    if count < 2:
        return mask_HW
    sizes = np.bincount(areas_HW.ravel())
    return areas_HW == 1 + int(np.argmax(sizes[1:]))
