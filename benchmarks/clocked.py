"""How long a call takes, in the time that a benchmark counts."""

import time
from collections.abc import Callable

import torch


def clocked(act: Callable[[], object], device: str) -> float:
    """Seconds of one call: of the processor on CPU, of the wall on a GPU."""
    if device == "cpu":
        began = time.process_time()
        act()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - began
