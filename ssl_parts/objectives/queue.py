"""The last Q targets of a run: first in, first out, the same on every rank, part of a checkpoint."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """Rows without gradient, newest first; `filled_Q` says which hold something yet. No shape
    depends on the data.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows_QD", torch.zeros(size, channels))
        self.register_buffer("filled_Q", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def push(self, rows_ND: Tensor, valid_N: Tensor) -> None:
        """Put the valid rows in front and let as many of the oldest go; ranks must push the same
        rows in one order.
        """
        rows = torch.cat([rows_ND.detach().to(self.rows_QD.dtype), self.rows_QD])
        filled = torch.cat([valid_N, self.filled_Q])
        kept_Q = torch.argsort(~filled, stable=True)[: len(self.filled_Q)]
        # new tensors: backward still needs the old ones
        self.rows_QD, self.filled_Q = rows[kept_Q], filled[kept_Q]
