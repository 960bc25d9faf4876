"""The loop that every training runs, and what it asks of the thing that is trained.

    restore ──▶ [ step ──▶ see ──▶ report? ──▶ save? ──▶ stop? ] × steps

A `Learner` says what one step computes. The loop around it is the same for self-supervised phases
and for supervised heads: it finds the newest checkpoint, counts steps, reports, saves, and leaves
in order when a signal asks for it. Everything random in a learner is a function of (seed, step), so
nothing but its `TrainingState` has to be saved.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from ssl_parts.data import BatchStream
from ssl_parts.engine.monitor import Monitor
from ssl_parts.engine.optim import set_lr
from ssl_parts.engine.state import TrainingState
from ssl_parts.engine.stop import Stopped, StopSignal


class Learner(ABC):
    """What a loop trains.

    Attributes:
        state: what a checkpoint holds.
    """

    state: TrainingState

    @abstractmethod
    def open_stream(self, start: int) -> BatchStream:
        """Read this process's batches from step `start` on; used in a `with`."""

    @abstractmethod
    def lr_at(self, step: int) -> float:
        """The peak learning rate of a step, as a function of the step."""

    @abstractmethod
    def take_step(self, stream: BatchStream, step: int) -> dict[str, Tensor]:
        """Do one optimiser step with the next batches of the stream.

        Returns:
            scalar terms of this process, the total under "loss".
        """

    @abstractmethod
    def paths_of(self, step: int) -> list[str]:
        """The images of a step's global batch, for a message."""

    def measure(self, done: int) -> dict[str, float]:
        """Figures for a report after `done` steps, the same on every process; none by default."""
        return {}

    def after_step(self, done: int) -> None:
        """Act after a step and its report, before its checkpoint; nothing by default."""
        return None


@dataclass(frozen=True)
class Cadence:
    """How often a loop reports and saves, in steps; changes nothing but disk and speed.

    log_every: steps between reports. checkpoint_every: between checkpoints. keep: newest
    checkpoints that stay. keep_every: and one every so many steps, for good; None keeps none.
    """

    log_every: int
    checkpoint_every: int
    keep: int = 2
    keep_every: int | None = None

    def reports_after(self, done: int) -> bool:
        """Whether a report is due after `done` steps."""
        return done % self.log_every == 0

    def saves_after(self, done: int) -> bool:
        """Whether a checkpoint is due after `done` steps."""
        milestone = self.keep_every is not None and done % self.keep_every == 0
        return done % self.checkpoint_every == 0 or milestone


@dataclass(frozen=True)
class Loop:
    """Takes a learner from its newest checkpoint to its last step.

    folder: of the phase; its checkpoints are in `checkpoints`. steps: of the phase.
    """

    folder: Path
    steps: int
    cadence: Cadence
    monitor: Monitor
    accelerator: Accelerator
    stop: StopSignal

    def train(self, learner: Learner) -> None:
        """Take the steps that are still to take.

        Raises:
            Stopped: a signal asked for it; the step in hand is finished and checkpointed.
            TrainingError: on every process: as `Monitor.check`, `Learner.measure` and
                `save_checkpoint`.
        """
        start = learner.state.restore(self.folder / "checkpoints")
        with self.monitor.begin(start), learner.open_stream(start) as stream:
            for step in range(start, self.steps):
                lr, done = learner.lr_at(step), step + 1
                set_lr(learner.state.optimizer, lr)
                terms = learner.take_step(stream, step)
                # On a GPU the step is only queued by now. Until a report is due nothing reads a
                # value from the device, so the host runs ahead and the GPU never waits for it.
                self.monitor.see(step, terms)
                if self.cadence.reports_after(done) or done == self.steps:
                    self.monitor.check(learner.paths_of)
                    self.monitor.report(
                        done, terms, lambda done=done: learner.measure(done), lr, stream.waited
                    )
                learner.after_step(done)
                # All processes get the same answer, a few steps after a signal came to one.
                stopping = self.stop.agreed(step)
                if stopping or self.cadence.saves_after(done) or done == self.steps:
                    self.save(learner, done)
                if stopping:
                    raise Stopped
                self.monitor.advance(stream.waited)

    def save(self, learner: Learner, done: int) -> None:
        """Write a checkpoint on the main process; the others wait until it is there."""
        if self.accelerator.is_main_process:
            learner.state.save(
                self.folder / "checkpoints", done, self.cadence.keep, self.cadence.keep_every
            )
        self.accelerator.wait_for_everyone()
