"""The objective of one step: the terms of a method, and what keeps the encoder near its start."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_parts.objectives.gather import average_over_processes
from ssl_parts.objectives.method import AnyMethod, LossInputs
from ssl_parts.objectives.network import Outputs
from ssl_parts.views import Views


class Objective(nn.Module):
    """The loss of a method, plus a weighted anchor to the initial encoder.

    Its state (queues, centres) belongs into a checkpoint.

    Args:
        method: from `build_method`, or one of your own; it builds the network and makes the views.
        anchor_weight: weight of `measure_anchor`.
    """

    def __init__(self, method: AnyMethod, anchor_weight: float = 0.0) -> None:
        super().__init__()
        self.method = method
        self.anchor_weight = anchor_weight

    @property
    def needs_initial(self) -> bool:
        """Whether `forward` needs the initial encoder's features."""
        return self.anchor_weight > 0 or self.method.needs_initial

    def forward(
        self,
        student: Outputs,
        teacher: Outputs | None = None,
        initial: Outputs | None = None,
        views: Views | None = None,
        progress: float = 0.0,
        rows_B: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch and its terms.

        Args:
            student: outputs of the method's network, with gradient.
            teacher: those of its EMA; None takes the student's own vectors as targets.
            initial, views, progress, rows_B: as in `LossInputs`.

        Returns:
            Scalars by name: the unweighted terms of the method (such as "part"), "anchor" where it
            has a weight, and "loss", their weighted sum.
        """
        inputs = LossInputs(
            student=student,
            teacher=student if teacher is None else teacher,
            initial=initial,
            views=views,
            rows_B=rows_B,
            progress=progress,
        )
        terms = self.method(inputs)
        if initial is not None and self.anchor_weight > 0:
            terms["anchor"] = measure_anchor(student, initial)
            terms["loss"] = terms["loss"] + self.anchor_weight * terms["anchor"]
        return terms


def measure_anchor(student: Outputs, initial: Outputs) -> Tensor:
    """Measure the distance to the initial encoder's features: a scalar in [0, 4].

    Mean over views of 1 - cos of pooled features, plus the mean of 1 - cos over all cells of the
    dense map.
    """
    pooled_N = 1 - F.cosine_similarity(student.pooled_ND.float(), initial.pooled_ND.float(), dim=1)
    dense_NHW = 1 - F.cosine_similarity(student.map_NDHW.float(), initial.map_NDHW.float(), dim=1)
    rows_N = pooled_N + dense_NHW.flatten(1).mean(1)
    count = torch.tensor(float(len(rows_N)), device=rows_N.device)
    return average_over_processes(rows_N.sum(), count)
