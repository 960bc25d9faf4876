"""DINO's projection head (arXiv 2104.14294): P prototypes on the unit sphere."""

import warnings

from lightly.models.modules.heads import DINOProjectionHead
from torch.nn.utils import parametrizations, remove_weight_norm

from ssl_parts.objectives.config import ObjectiveConfig


def dino_head(width: int, config: ObjectiveConfig) -> DINOProjectionHead:
    """lightly's head: three layers, unit length, P weight-normalised prototypes of fixed norm.

    torch's older weight norm, which lightly uses, cannot be copied into a teacher; the newer one
    computes the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        head = DINOProjectionHead(width, config.hidden, config.projection, config.dino_prototypes)
    head.last_layer = parametrizations.weight_norm(remove_weight_norm(head.last_layer))
    norms = head.last_layer.parametrizations.weight.original0
    norms.data.fill_(1)
    norms.requires_grad_(False)
    return head
