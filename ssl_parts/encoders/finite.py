"""Finding features that are NaN or infinite."""

import torch
from torch import Tensor


def first_not_finite(values: Tensor) -> int | None:
    """The first row (B, ...) that holds NaN or infinity; None where all are finite.

    Example:
        >>> first_not_finite(torch.tensor([[1.0, 2.0], [3.0, float("inf")]]))
        1
    """
    bad_B = ~torch.isfinite(values).flatten(1).all(1)
    return int(bad_B.nonzero()[0, 0]) if bool(bad_B.any()) else None
