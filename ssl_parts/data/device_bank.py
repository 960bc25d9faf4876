"""A whole bank on the device: a fine-grained set at 224 px is one or two GiB, so a GPU holds it
and a batch is a gather, without decoding, copying or workers.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.config import OnDevice
from ssl_parts.data.records import Sample
from ssl_parts.errors import DataError

CHUNK = 256  # images copied at a time
AUTO_SHARE = 0.25  # of the free memory: the rest is for training


def place_bank(bank: ImageBank, device: torch.device, where: OnDevice) -> "Bank":
    """The bank that training reads: a `DeviceBank` where that is asked for, or on a GPU with room,
    else the bank.

    Raises:
        DataError: always, and it does not fit.
    """
    if where is OnDevice.auto and device.type == "cuda":
        fits = len(bank) * 3 * bank.size**2 <= AUTO_SHARE * torch.cuda.mem_get_info(device)[0]
        return DeviceBank(bank, device) if fits else bank
    return DeviceBank(bank, device) if where is OnDevice.always else bank


class DeviceBank:
    """The images of a bank as one uint8 tensor on a device; otherwise the bank itself.

    Args:
        bank: filled or not.
        device: where to keep them.
        progress: called with the number of images of each chunk.

    Raises:
        DataError: an image that cannot be read; more memory than 0.9 of what the device has free.
    """

    def __init__(
        self,
        bank: ImageBank,
        device: torch.device | str,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.bank, self.device = bank, torch.device(device)
        self.dataset, self.size, self.labels, self.paths = (
            bank.dataset,
            bank.size,
            bank.labels,
            bank.paths,
        )
        needed = len(bank) * 3 * bank.size**2
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
            if needed > 0.9 * free:
                raise DataError(
                    f"{len(bank)} images of {bank.size} px need {needed / 2**30:.1f} GiB on {self.device}, of which "
                    f"{free / 2**30:.1f} are free; keep them in host memory, or lower data.size"
                )
        self._images = torch.empty(
            len(bank), 3, bank.size, bank.size, dtype=torch.uint8, device=self.device
        )
        for start in range(0, len(bank), CHUNK):
            chunk = np.arange(start, min(start + CHUNK, len(bank)))
            self._images[start : start + len(chunk)] = bank.images(chunk).to(self.device)
            if progress is not None:
                progress(len(chunk))

    def __len__(self) -> int:
        return len(self.bank)

    def images(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """uint8 (n, 3, size, size) on the device, in this order.

        Raises:
            DataError: a position outside the bank.
        """
        positions = torch.as_tensor(self.bank.positions(indices)).to(self.device, non_blocking=True)
        return self._images.index_select(0, positions)

    def sample(self, i: int) -> Sample:
        """As `ImageBank.sample`, in host memory."""
        return self.bank.sample(i)


Bank = ImageBank | DeviceBank
