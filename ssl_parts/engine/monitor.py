"""What is known of a training while it runs: one object that a loop tells what happened.

`Monitor` holds the guards that stop a hopeless run, metrics.jsonl, the trackers, the line of
progress and the pace.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ssl_parts.engine.progress import Pace, Progress
from ssl_parts.errors import TrainingError
from ssl_parts.files import write_atomic

PATIENCE = 200  # steps without a shared part before a run stops


class MetricsLog:
    """metrics.jsonl: one JSON object per line; `rewind` keeps a resumed log free of twins."""

    def __init__(self, path: Path, enabled: bool = True) -> None:
        """`enabled`: False on all but the main process."""
        self.path, self.enabled = path, enabled

    def write(self, **values: float | int | str | None) -> None:
        """Append a line; floats are rounded to six digits behind the point."""
        if not self.enabled:
            return
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")

    def rewind(self, phase: str, step: int = -1) -> None:
        """Delete the lines of a phase that come after `step`, as a killed run left them.

        Args:
            phase: lines of other phases stay.
            step: of the newest checkpoint; -1 deletes all lines of the phase.
        """
        if not self.enabled or not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not _is_after(line, phase, step)]
        if len(kept) < len(lines):
            write_atomic(self.path, "".join(kept))


def _is_after(line: str, phase: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # a line that was being written when the run was killed
        return True
    return row["phase"] == phase and row.get("step", 0) > step


class Guard:
    """Finds what a run cannot recover from, without making the host wait for the device.

    What it needs stays on the device until `check` is called, every few steps.
    """

    def __init__(self, device: torch.device, patience: int = PATIENCE) -> None:
        """`patience`: steps without a shared part that are tolerated."""
        self.first_bad_step = torch.full((), -1, dtype=torch.long, device=device)
        self.without_shared = torch.zeros((), dtype=torch.long, device=device)
        self.patience = patience

    def see(self, step: int, terms: dict[str, Tensor]) -> None:
        """Take note of a step's terms; waits for nothing.

        Args:
            terms: scalars with "loss", and "shared_parts" where views share parts.
        """
        bad = ~torch.isfinite(terms["loss"].detach()) & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(bad, step, self.first_bad_step)
        if "shared_parts" in terms:
            self.without_shared = torch.where(terms["shared_parts"] > 0, 0, self.without_shared + 1)

    def check(self, gather: Callable[[Tensor], Tensor] = Tensor.clone) -> int | None:
        """Return the first step whose loss was not finite on any process, or None.

        Args:
            gather: joins the values of all processes, so that all of them decide alike: one that
                stopped alone would leave the others waiting for it.

        Raises:
            TrainingError: no pair of views has shared a part for `patience` steps.
        """
        without_shared = int(gather(self.without_shared).min())
        if without_shared >= self.patience:
            raise TrainingError(
                f"no pair of views has shared a part for {without_shared} steps: nothing can be "
                "learnt. Look at parts.png of this round; raise views.crop.scale or change "
                "parts.foreground"
            )
        bad = [step for step in gather(self.first_bad_step).view(-1).tolist() if step >= 0]
        return min(bad, default=None)


class Monitor:
    """The log, the progress and the guards of one phase; the same calls on every process.

    `see` and `advance` wait for nothing. `report` reads values from the device: every few steps.

    Args:
        name: of the phase, in metrics.jsonl and in front of a tracker's names.
        folder: where the images of a non-finite loss are listed.
        metrics: the log of the run.
        accelerator: of the run; its trackers get what the log gets.
        steps: of the phase.
        batch: pairs or images per step, over all processes; unit: which of the two.
        first_step: steps of the run before this phase; trackers count over all phases.
        title: beside the bar of progress; by default the name.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        metrics: MetricsLog,
        accelerator: Accelerator,
        *,
        steps: int,
        batch: int,
        unit: str = "pairs",
        first_step: int = 0,
        title: str = "",
    ) -> None:
        self.name, self.folder, self.metrics = name, folder, metrics
        self.accelerator, self.steps, self.first_step = accelerator, steps, first_step
        self.guard = Guard(accelerator.device)
        self.pace = Pace(batch, accelerator.device, unit)
        self.title = title or name
        self.progress = Progress(self.title, 0, steps, enabled=False)

    def begin(self, done: int) -> Progress:
        """Show progress from `done` finished steps on, and delete what was logged after them.

        Use the result in a `with`.
        """
        self.metrics.rewind(self.name, done)
        main = self.accelerator.is_main_process
        self.progress = Progress(self.title, done, self.steps, enabled=main)
        return self.progress

    def see(self, step: int, terms: dict[str, Tensor]) -> None:
        """Take note of the scalar terms of step `step`, counted from 0."""
        self.guard.see(step, terms)

    def check(self, paths_of: Callable[[int], list[str]]) -> None:
        """Stop all processes together where one of them cannot go on.

        Args:
            paths_of: the images of a step's global batch.

        Raises:
            TrainingError: a loss that is not finite (the images of its batch are listed in a
                file), or as `Guard.check`.
        """
        bad = self.guard.check(self._gather)
        if bad is not None:
            paths, listed = paths_of(bad), self.folder / "non_finite_batch.txt"
            if self.accelerator.is_main_process:
                write_atomic(listed, "\n".join(paths) + "\n")
            raise explain_non_finite(bad, len(paths), listed)

    def report(
        self,
        done: int,
        terms: dict[str, Tensor],
        measure: Callable[[], dict[str, float]],
        lr: float,
        waited: float,
    ) -> None:
        """Log the mean of the terms over processes, what `measure` finds, and the pace.

        Args:
            done: finished steps.
            terms: scalars of the last step.
            measure: further figures, called after the terms are shown.
            lr: learning rate of the last step.
            waited: seconds spent waiting for data so far.
        """
        values = {name: average(self.accelerator, value) for name, value in terms.items()}
        self.progress.show(values)
        values |= measure()
        self.write(done, values | {"lr": lr, **self.pace.measure(done, waited)})

    def write(self, done: int, values: dict[str, float]) -> None:
        """Write figures after `done` steps to metrics.jsonl and to the trackers."""
        self.metrics.write(phase=self.name, step=done, **values)
        named = {f"{self.name}/{name}": value for name, value in values.items()}
        self.accelerator.log(named, step=self.first_step + done)

    def advance(self, waited: float) -> None:
        """Move the progress on by one step; `waited` as in `report`."""
        self.progress.advance(1, waited)

    def _gather(self, value: Tensor) -> Tensor:
        gathered: Any = self.accelerator.gather(value)
        return gathered


def average(accelerator: Accelerator, value: Tensor) -> float:
    """Average a scalar over the processes; the host waits for it."""
    reduced: Any = accelerator.reduce(value.detach().float(), "mean")
    return float(reduced)


def explain_non_finite(step: int, images: int, listed: Path) -> TrainingError:
    """Say which loss was not finite, where its images are listed, and what to try."""
    return TrainingError(
        f"the loss of step {step} is not finite. The {images} images of its batch are listed in "
        f"{listed}. Try a lower train.lr, train.clip=3 or run.precision=fp32"
    )
