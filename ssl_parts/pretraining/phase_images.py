"""The training images of a phase as a method looks at them: pixels, detail, part ids, and vectors
that are made once.

Shapes: R images of the phase, B of one call, D channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from ssl_parts.data import Bank, ImageBank
from ssl_parts.engine.checkpoint import save_tensors
from ssl_parts.engine.progress import Progress
from ssl_parts.files import whole_or_not
from ssl_parts.parts.store import PartStore

CHUNK = 64  # images per call of what makes their vectors


@dataclass(frozen=True)
class PhaseImages:
    """What `Method.prepare` is given; see `ssl_parts.objectives.method.TrainingImages`.

    folder: of the phase. accelerator: of the run.
    """

    bank: Bank
    parts: PartStore | None
    folder: Path
    accelerator: Accelerator

    @property
    def k(self) -> int:
        return 0 if self.parts is None else self.parts.k

    @property
    def background(self) -> int | None:
        return None if self.parts is None else self.parts.background

    def __len__(self) -> int:
        return len(self.bank)

    def images(self, rows_B: Tensor) -> Tensor:
        return self.bank.images(rows_B)

    def ids(self, rows_B: Tensor) -> Tensor | None:
        return None if self.parts is None else self.parts.batch(rows_B)

    def detailed_images(self, rows_B: Tensor, size: int) -> Tensor:
        """Squares as `images`, at another size, decoded anew: uint8 (B,3,size,size).

        Raises:
            ConfigError: a size out of range.
        """
        bank = self.bank if isinstance(self.bank, ImageBank) else self.bank.bank
        return bank.resized(size).images(rows_B)

    def make_once(self, name: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Vectors (R,D) on the CPU: read from the phase's folder, or made and written there.

        Every process makes an equal share. What a killed one leaves is whole or not there.

        Raises:
            TrainingError: the file cannot be written.
        """
        path = self.folder / f"{name}.safetensors"
        there = path.exists()
        self.accelerator.wait_for_everyone()  # before any process could have written it
        if there:
            return load_file(path)[name]
        vectors_RD = self._make(name, make)
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_or_not(path, f"the {name}'s vectors"):
                save_tensors(path, {name: vectors_RD})
        return vectors_RD

    def _make(self, name: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        each = -(-len(self) // processes)
        # equal shares: the last ones begin again at the first image
        share_S = torch.remainder(torch.arange(each) * processes + rank, len(self))
        made = []
        shown = self.accelerator.is_main_process
        with Progress(name, 0, each, "image", shown) as progress:
            for rows_B in share_S.split(CHUNK):
                made.append(make(rows_B))
                progress.advance(len(rows_B))
        gathered: Any = self.accelerator.gather(torch.cat(made).to(self.accelerator.device))
        by_rank_PSD = gathered.view(processes, each, -1)
        return by_rank_PSD.transpose(0, 1).flatten(0, 1)[: len(self)].cpu()
