"""Progress of a phase: a bar in a terminal, else a plain line every fifteen seconds.

Only the main process prints.
"""

import sys
import time

import torch
from tqdm import tqdm

LINE_EVERY = 15.0  # seconds between plain lines


class Progress:
    """Rate, time left, share of time spent waiting for data, and the terms of the loss.

    `with Progress("round 0", start, total) as p: p.advance(1, waited_seconds); p.show({"loss":
    1.2})`
    """

    def __init__(
        self, name: str, start: int, total: int, unit: str = "step", enabled: bool = True
    ) -> None:
        self.name, self.total, self.done, self.unit = name, total, start, unit
        self.enabled, self.terminal = enabled, sys.stderr.isatty()
        self.began = self.printed = time.monotonic()
        self.first, self.waited, self.terms = start, 0.0, ""
        self.bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if self.enabled and self.terminal:
            self.bar = tqdm(
                desc=self.name,
                initial=self.done,
                total=self.total,
                unit=self.unit,
                dynamic_ncols=True,
            )
        return self

    def advance(self, n: int = 1, waited: float = 0.0) -> None:
        """Count `n` more as done; prints a line where one is due and there is no bar.

        Args:
            waited: seconds spent waiting for data so far, in all.
        """
        self.done, self.waited = self.done + n, waited
        if self.bar is not None:
            self.bar.update(n)
        elif self.enabled and time.monotonic() - self.printed > LINE_EVERY:
            self._print_line()

    def show(self, values: dict[str, float]) -> None:
        """Put these figures behind the bar or the next line."""
        self.terms = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.terms}  data {self._wait_share():.0%}", refresh=False)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.enabled and self.done > self.first:
            self._print_line()

    def _print_line(self) -> None:
        self.printed = time.monotonic()
        rate = (self.done - self.first) / max(1e-9, self.printed - self.began)
        left = (self.total - self.done) / max(rate, 1e-9)
        text = f"{self.name}: {self.done}/{self.total}  {rate:.2f} {self.unit}/s  {left:.0f} s left"
        print(
            f"{text}  data wait {self._wait_share():.0%}  {self.terms}".rstrip(),
            file=sys.stderr,
            flush=True,
        )

    def _wait_share(self) -> float:
        return self.waited / max(1e-9, time.monotonic() - self.began)


class Pace:
    """How fast training is between two reports."""

    def __init__(self, batch: int, device: torch.device, unit: str = "pairs") -> None:
        """`batch`: pairs or images (`unit`) per step, over all processes."""
        self.batch, self.device, self.unit = batch, device, unit
        self.last: tuple[float, int, float] | None = None

    def measure(self, done: int, waited: float) -> dict[str, float]:
        """Measure the time since the last call; {} at the first one.

        Args:
            done: finished steps. waited: seconds spent waiting for data so far.

        Returns:
            UNIT_per_second, data_wait (share of the time spent waiting for data), and on a GPU
            gpu_memory_gb (peak so far, in GiB).
        """
        now, before = (time.perf_counter(), done, waited), self.last
        self.last = now
        if before is None:
            return {}
        seconds, steps, waiting = (new - old for new, old in zip(now, before))
        pace = {
            f"{self.unit}_per_second": self.batch * steps / seconds,
            "data_wait": waiting / seconds,
        }
        if self.device.type == "cuda":
            pace["gpu_memory_gb"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        return pace
