"""What a training must find again to continue bit for bit: the content of its checkpoints."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_parts.engine.checkpoint import load_checkpoint, save_checkpoint


@dataclass
class TrainingState:
    """Everything that changes while training.

    Data order, views, schedules and random numbers are functions of the step and need no place
    here.

    Attributes:
        student: the network that is trained, not wrapped.
        teacher: the moving average of its weights, or None.
        optimizer: of the student's parameters.
        objective: a module whose buffers (queues, centres) change, or None.
        extra: figures that go into JSON, such as the best validation accuracy so far.
    """

    student: nn.Module
    teacher: nn.Module | None
    optimizer: torch.optim.Optimizer
    objective: nn.Module | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, step: int, keep: int, keep_every: int | None = None) -> None:
        """Write a checkpoint; see `save_checkpoint`. Call it on the main process alone.

        Args:
            folder: of all checkpoints.
            step: number of finished steps.
            keep: newest checkpoints that stay; keep_every: and multiples of it, for good.

        Raises:
            TrainingError: as `save_checkpoint`.
        """
        save_checkpoint(
            folder,
            step,
            self.student.state_dict(),
            {} if self.teacher is None else self.teacher.state_dict(),
            self.optimizer.state_dict(),
            self.extra,
            keep=keep,
            keep_every=keep_every,
            objective=None if self.objective is None else self.objective.state_dict(),
        )

    def restore(self, folder: Path) -> int:
        """Load the newest whole checkpoint below `folder`, in place.

        Returns:
            the number of finished steps, 0 where there is no checkpoint.
        """
        found = load_checkpoint(folder)
        if found is None:
            return 0
        self.student.load_state_dict(found.student)
        if self.teacher is not None:
            self.teacher.load_state_dict(found.teacher)
        self.optimizer.load_state_dict(found.optimizer)
        if self.objective is not None:
            self.objective.load_state_dict(found.objective)
        self.extra.update(found.extra)
        return found.step
