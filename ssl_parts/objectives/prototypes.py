"""Self-distillation over prototypes, as in DINO (Caron et al., arXiv 2104.14294): head and loss.

Shapes: N = 2B views of B images, D channels, P prototypes.
"""

import warnings
from typing import cast

from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn
from torch.nn.utils import parametrizations, remove_weight_norm

from ssl_parts.objectives.config import DinoConfig, ObjectiveConfig
from ssl_parts.objectives.network import split_views

STUDENT_TEMPERATURE, CENTRE_MOMENTUM = 0.1, 0.9


def build_prototype_head(channels: int, config: ObjectiveConfig) -> DINOProjectionHead:
    """Build lightly's head: three layers, unit length, P weight-normalised prototypes of norm 1.

    Section 3.1 of DINO, "Network architecture". torch's older weight norm, which lightly uses,
    cannot be copied into a teacher; the newer one computes the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        head = DINOProjectionHead(
            channels, config.hidden, config.projection, config.dino.prototypes
        )
    prototypes = parametrizations.weight_norm(remove_weight_norm(head.last_layer))
    head.last_layer = cast(nn.Linear, prototypes)
    norms = head.last_layer.get_parameter("parametrizations.weight.original0")
    norms.data.fill_(1)
    norms.requires_grad_(False)
    return head


class PrototypeLoss(nn.Module):
    """Cross-entropy between the teacher's centred, sharpened distribution over prototypes and the
    student's.

    Its centre, a running mean over all processes, is a buffer and so in the checkpoint.
    """

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        self.loss = DINOLoss(
            config.prototypes,
            student_temp=STUDENT_TEMPERATURE,
            center_momentum=CENTRE_MOMENTUM,
        )

    def forward(self, student_NP: Tensor, teacher_NP: Tensor, progress: float) -> Tensor:
        r"""Compute the loss of DINO, section 3.1 (equations 1 to 3), on the two views.

        .. math::
            L = -\tfrac12 \sum_{v \ne w} \frac1B \sum_b p_t(x_{b,v}) \cdot \log p_s(x_{b,w})

        with :math:`p_t = \mathrm{softmax}((t - c)/\tau_t)` and
        :math:`p_s = \mathrm{softmax}(s/0.1)`. Then the centre moves (equation 4):
        :math:`c \leftarrow 0.9 c + 0.1\,\mathrm{mean}(t)`. By ``lightly.loss.DINOLoss``.

        Args:
            student_NP, teacher_NP: logits; the teacher's without gradient.
            progress: share of the phase done, 0 to 1; sets :math:`\tau_t`.

        Returns:
            Scalar, in fp32.
        """
        teacher, student = (
            list(split_views(logits_NP.float())) for logits_NP in (teacher_NP, student_NP)
        )
        return self.loss(teacher, student, teacher_temp=self.teacher_temperature(progress))

    def teacher_temperature(self, progress: float) -> float:
        """Rise linearly from the first to the second of `dino.temperature`, then stay."""
        low, high = self.config.temperature
        share = self.config.warmup_share
        return high if progress >= share else low + (high - low) * progress / share

    def hold_prototypes(self, head: nn.Module, progress: float) -> None:
        """Drop the gradients of a head's prototypes at the beginning of a phase."""
        if progress < self.config.freeze_share:
            for parameter in head.get_submodule("last_layer").parameters():
                parameter.grad = None
