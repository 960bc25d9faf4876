"""Stopping a run from outside without losing work: SIGTERM or SIGUSR1 asks for it.

A training step is finished and checkpointed first. Discovery and evaluation have on disk what they
have finished, so they are left at once. All processes leave at the same place, with the exit code
that a job script requeues.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: the same command continues; see launch/slurm/
AGREE_EVERY = 4  # steps between two sums over the processes
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]

T = TypeVar("T")


class Stopped(SystemExit):
    """The run was asked to stop and has stopped.

    Uncaught, it ends the process with the code REQUEUE and no traceback.
    """

    def __init__(self) -> None:
        super().__init__(REQUEUE)


class StopSignal:
    """Hears the signals inside `with StopSignal(accelerator) as stop:`.

    Outside the main thread Python lets nobody hear signals, and none is heard.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator, self.asked = accelerator, False
        self._leave_at_once = False
        self._earlier: dict[int, Any] = {}
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
        """Run `work` so that a signal may interrupt it at any point, then synchronise.

        Args:
            work: leaves on disk what it has finished, and must not contain collectives.

        Returns:
            what `work` returned.

        Raises:
            Stopped: on every process, if any of them was asked.
        """
        results: list[T] = []
        try:
            self._leave_at_once = True
            if not self.asked:
                results.append(work())
        except Stopped:
            pass  # this process leaves the work; check() raises it again, on every process at once
        finally:
            self._leave_at_once = False
        self.check()  # does not return where there is no result
        return results[0]

    def check(self) -> None:
        """Wait for all processes between two stages.

        Raises:
            Stopped: on every process, if any of them was asked.
        """
        if bool(self._asked_anywhere() > 0):
            raise Stopped

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step: the same answer on every process.

        The host waits for no device: several processes add up their flags every AGREE_EVERY steps
        and read the sum that many steps later, when it has long arrived.
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
        total: Any = self.accelerator.reduce(flag, "sum")
        return total

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
