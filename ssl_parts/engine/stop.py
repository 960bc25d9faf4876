"""Stopping a run from outside without losing work: SIGTERM or SIGUSR1 asks, the run stops where
nothing is lost.

A training step is finished and checkpointed first. Discovery and evaluation have whatever is
finished on disk at every moment, so they are left at once. All processes leave at the same place,
with the exit code that a job script requeues.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on; see launch/slurm/
AGREE_EVERY = 4  # steps between two looks at the other processes
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]

T = TypeVar("T")


class Stopped(SystemExit):
    """The run was asked to stop and has stopped; uncaught, the process ends with code REQUEUE and
    no traceback.
    """

    def __init__(self) -> None:
        super().__init__(REQUEUE)


class StopSignal:
    """`with StopSignal(accelerator) as stop:` hears the signals; outside the main thread it hears
    none.
    """

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator, self.asked = accelerator, False
        self._leave_at_once = False
        self._earlier: dict[int, object] = {}
        self._answer: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._leave_at_once:
            self._leave_at_once = False
            raise Stopped

    def interruptible(self, work: Callable[[], T]) -> T:
        """Do work that may be left anywhere (no collectives in it), then wait for the other
        processes.

        Raises:
            Stopped: on every process, if any of them was asked.
        """
        result = None
        try:
            self._leave_at_once = True
            result = None if self.asked else work()
        except Stopped:
            pass  # this process leaves the work; check() raises it again, on every process at once
        finally:
            self._leave_at_once = False
        self.check()
        return result

    def check(self) -> None:
        """A barrier between stages; Stopped on every process, if any of them was asked."""
        if bool(self._asked_anywhere() > 0):
            raise Stopped

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step: the same answer on every process, and the host waits
        for no device.

        Several processes look at each other every AGREE_EVERY steps and read the answer that many
        steps later, when it has long arrived.
        """
        if self.accelerator.num_processes == 1:
            return self.asked
        if step % AGREE_EVERY:
            return False
        stop = self._answer is not None and self._read(*self._answer)
        self._answer = self._ask()
        return stop

    def _asked_anywhere(self) -> Tensor:
        flag = torch.tensor(float(self.asked), device=self.accelerator.device)
        return self.accelerator.reduce(flag, "sum")

    def _ask(self) -> tuple[Tensor, torch.cuda.Event | None]:
        flag = self._asked_anywhere()
        if flag.device.type != "cuda":
            return flag, None
        answer, arrived = torch.empty_like(flag, device="cpu", pin_memory=True), torch.cuda.Event()
        answer.copy_(flag, non_blocking=True)
        arrived.record()
        return answer, arrived

    @staticmethod
    def _read(answer: Tensor, arrived: torch.cuda.Event | None) -> bool:
        if arrived is not None:
            arrived.synchronize()
        return bool(answer > 0)
