"""Batches of a training step, read ahead in background threads. The batch of step t depends on
(seed, t) alone.

Threads suffice: a cached bank copies memory, and decoding and resizing release Python's lock.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.order import batch_indices, rank_slice
from ssl_parts.errors import ConfigError


class ImageSource(Protocol):
    """What a stream reads: an `ImageBank` or a `DeviceBank`."""

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> Tensor: ...


class BatchStream(Iterator[tuple[int, Tensor, Tensor]]):
    """Endless (step, indices, images): int, long (b,), uint8 (b, 3, S, S), from `start_step` on.

    b is this rank's share of the global batch. `waited` is the time in seconds that the consumer
    has waited so far. Use it in a `with`, or call `close`.

    Args:
        bank: the images.
        batch: of all ranks together.
        seed: of the order.
        start_step: first step; resuming at step t gives what an unbroken run reads at t.
        workers: threads; they change nothing but speed.
        prefetch: batches that are read ahead.
        pin: put batches in page-locked memory, for copies to a GPU that do not wait.
        indices_of: another order: a pure function step -> global batch of positions, such as a
            `ClassBalanced`.

    Raises:
        ConfigError: batch larger than the bank, or not divisible by the ranks; no worker.
        DataError: from `next`, an image that cannot be read, with its path.
    """

    def __init__(
        self,
        bank: ImageSource,
        batch: int,
        seed: int = 0,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 2,
        prefetch: int = 4,
        pin: bool = False,
        indices_of: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        if workers < 1 or prefetch < 1:
            raise ConfigError(
                f"a stream needs at least one worker and one batch ahead, not {workers} and {prefetch}"
            )
        self.bank, self.waited = bank, 0.0
        self._share, self._pin = rank_slice(batch, rank, world_size), pin
        self._indices_of = indices_of or (lambda step: batch_indices(step, batch, len(bank), seed))
        self._indices_of(start_step)  # a batch that does not fit fails here, not in a thread
        self._next_step, self._prefetch = start_step, prefetch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._ahead: deque[Future] = deque()
        self._closed = threading.Event()

    def __next__(self) -> tuple[int, Tensor, Tensor]:
        if self._closed.is_set():
            raise StopIteration
        self._read_ahead()
        start = time.perf_counter()
        try:
            batch = self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        self.waited += time.perf_counter() - start
        self._read_ahead()
        return batch

    def _read_ahead(self) -> None:
        while len(self._ahead) < self._prefetch:
            self._ahead.append(self._pool.submit(self._read, self._next_step))
            self._next_step += 1

    def _read(self, step: int) -> tuple[int, Tensor, Tensor]:
        indices = self._indices_of(step)[self._share]
        images = self.bank.images(indices)
        return step, torch.from_numpy(indices), images.pin_memory() if self._pin else images

    def read_now(self) -> tuple[int, Tensor, Tensor]:
        """The next batch that nobody has begun to read, read by the caller: what loading costs
        without threads.
        """
        self._next_step += 1
        return self._read(self._next_step - 1)

    def close(self) -> None:
        """Stop reading; waits for the batches in work. Safe to call twice."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
