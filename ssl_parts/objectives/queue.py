"""The last Q targets of a run: first in, first out, equal on every process, in the checkpoint."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """Rows without gradient, newest first. No shape depends on the data.

    Args:
        size: Q, rows that are kept.
        channels: D of each.

    Attributes:
        rows_QD: the rows, zero where none has come yet.
        filled_Q: bool, which places hold a row.
    """

    rows_QD: Tensor
    filled_Q: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows_QD", torch.zeros(size, channels))
        self.register_buffer("filled_Q", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def push(self, rows_ND: Tensor, valid_N: Tensor) -> None:
        """Put the valid rows in front and let as many of the oldest go.

        Every process must push the same rows in the same order.
        """
        rows = torch.cat([rows_ND.detach().to(self.rows_QD.dtype), self.rows_QD])
        filled = torch.cat([valid_N, self.filled_Q])
        kept_Q = torch.argsort(~filled, stable=True)[: len(self.filled_Q)]
        # new tensors: backward still needs the old ones
        self.rows_QD, self.filled_Q = rows[kept_Q], filled[kept_Q]
