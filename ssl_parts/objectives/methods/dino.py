"""DINO (Caron et al., arXiv 2104.14294) on the two views: self-distillation over learned
prototypes.

Shapes: N views, D channels, P prototypes.
"""

from typing import TYPE_CHECKING

from lightly.loss import DINOLoss
from torch import Tensor, nn

from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.dino_head import dino_head
from ssl_parts.objectives.method import InstanceMethod
from ssl_parts.objectives.network import Outputs, split_views

if TYPE_CHECKING:
    from ssl_parts.views import Views

STUDENT_TEMPERATURE, CENTRE_MOMENTUM = 0.1, 0.9


class DinoTerm(nn.Module):
    r"""Cross-entropy between the teacher's centred, sharpened distribution over prototypes and the
    student's.

    .. math::
        L = -\tfrac12 \sum_{v \ne w} \frac1B \sum_b p_t(x_{b,v}) \cdot \log p_s(x_{b,w})

    with :math:`p_t = \mathrm{softmax}((t - c)/\tau_t)` and :math:`p_s = \mathrm{softmax}(s/0.1)`.
    The centre :math:`c` is a running mean over all processes and lives in the checkpoint;
    :math:`\tau_t` rises linearly from the first to the second number of
    `objective.dino_temperature` over `dino_warmup_share` of the phase (METHODS §1.4: 0.04 to 0.07
    over 20 of 100 epochs). Loss and centre: ``lightly.loss.DINOLoss``.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.loss = DINOLoss(
            config.dino_prototypes,
            student_temp=STUDENT_TEMPERATURE,
            center_momentum=CENTRE_MOMENTUM,
        )

    def forward(self, student_NP: Tensor, teacher_NP: Tensor, progress: float) -> Tensor:
        teacher, student = (
            list(split_views(logits_NP.float())) for logits_NP in (teacher_NP, student_NP)
        )
        return self.loss(teacher, student, teacher_temp=self.temperature(progress))

    def temperature(self, progress: float) -> float:
        """Of the teacher."""
        low, high = self.config.dino_temperature
        share = self.config.dino_warmup_share
        return high if progress >= share else low + (high - low) * progress / share

    def hold_prototypes(self, head: nn.Module, progress: float) -> None:
        """Prototypes stay as they are at the beginning of a phase: their gradients are dropped."""
        if progress < self.config.dino_freeze_share:
            for parameter in head.last_layer.parameters():
                parameter.grad = None


class DINO(InstanceMethod):
    """The DINO term alone, on pooled features (a ViT's CLS token); two global views, no local
    crops.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.term = DinoTerm(config)

    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        return dino_head(width, self.config), nn.Identity()

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        loss = self.term(student.instance_ND, teacher.instance_ND, progress)
        return {"loss": loss, "dino": loss}

    def before_update(self, network: nn.Module, progress: float) -> None:
        self.term.hold_prototypes(network.projector, progress)
