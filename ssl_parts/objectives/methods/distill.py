"""Part-crop self-distillation (ours): one pass over a view learns what the frozen encoder knows
from several passes over the image, its found object and its found parts.

Relatives: knowledge distillation (Hinton et al., arXiv 1503.02531), distilling the average over
transformed inputs (data distillation, Radosavovic et al., arXiv 1712.04440), a frozen encoder's
features as target (FitNets, arXiv 1412.6550), and local crops that learn from global ones (DINO,
arXiv 2104.14294): here the other way round, and at places that part discovery found.

Shapes: R training images, B images of a step, M crops per image, D channels, SxS pixels.
"""

import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.objectives.method import LossInputs, Method, TrainingImages
from ssl_parts.objectives.network import Network, Outputs
from ssl_parts.parts.crops_config import CropsConfig
from ssl_parts.parts.passes import Squares, embed_passes
from ssl_parts.views import ViewPlan, ViewsConfig, plan_views

LEAST_DEVIATION = 1e-3  # of a teacher's channel, so that a dead one is not blown up


class BareNetwork(Network[Outputs]):
    """The encoder without heads."""

    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> Outputs:
        return seen


class Distill(Method[Outputs]):
    """A plain cosine to fixed vectors: no heads, no negatives, no moving teacher, one view."""

    has_teacher = False

    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[Outputs]:
        return BareNetwork(encoder)

    def prepare(self, network: Network[Outputs], images: TrainingImages) -> None:
        """Make the teacher's vector of each image by the encoder as it is now, once in a phase.

        Raises:
            ConfigError: crops of found parts in a phase without parts.
        """
        config, encoder = self.config.distill, network.encoder
        if config.needs_parts and images.k == 0:
            raise ConfigError(
                f"objective.distill.passes=[{','.join(config.passes)}] needs part ids, but this "
                "phase has none; set objective.distill.passes=[image,flip], or train with parts"
            )
        teacher_RD = images.make_once(
            "teacher", lambda rows_B: embed_images(encoder, images, rows_B, config)
        )
        self.teacher_RD = teacher_RD.to(next(network.parameters()).device)
        self.mean_D = self.teacher_RD.mean(0)
        self.deviation_D = self.teacher_RD.std(0, correction=0).clamp(min=LEAST_DEVIATION)

    def plan_views(self, n: int, config: ViewsConfig, seed: int, step: int) -> ViewPlan:
        """Draw one view per image."""
        return plan_views(n, config, seed, step, count=1)

    def forward(self, inputs: LossInputs[Outputs]) -> dict[str, Tensor]:
        r"""Compute the distance to the teacher's vectors, in [0, 2].

        .. math::
            L = \mathrm{mean}_b \left[1 - \cos\left(
                \frac{f(v_b) - \mu}{\sigma}, \frac{t_b - \mu}{\sigma}\right)\right],
            \qquad t_b = \frac{1}{M_b} \sum_m f_0(c_{b,m})

        with pooled features :math:`f` of the view :math:`v_b`, the encoder :math:`f_0` at the start
        of the phase, the crops :math:`c_{b,m}`, and mean :math:`\mu` and deviation :math:`\sigma`
        of each channel of :math:`t` over the training images.

        Returns:
            "loss" and the same as "distill".
        """
        assert inputs.rows_B is not None, "a phase numbers its images"
        student_ND = inputs.student.pooled_ND.float()
        rows_N = inputs.rows_B.repeat(len(student_ND) // len(inputs.rows_B))
        target_ND = self.teacher_RD[rows_N.to(self.teacher_RD.device)]
        cosine_N = F.cosine_similarity(self.standardise(student_ND), self.standardise(target_ND))
        loss = (1 - cosine_N).mean()
        return {"loss": loss, "distill": loss}

    def standardise(self, vectors_BD: Tensor) -> Tensor:
        """Subtract the mean and divide by the deviation of the teacher's channels."""
        return (vectors_BD - self.mean_D) / self.deviation_D


def embed_images(
    encoder: Encoder, images: TrainingImages, rows_B: Tensor, config: CropsConfig
) -> Tensor:
    """The teacher's vectors of some training images, float (B,D) on the encoder's device."""
    device = next(encoder.parameters()).device
    whole_B3SS = images.images(rows_B).to(device)
    detailed_B3TT = None
    if config.needs_detail:
        detailed_B3TT = images.detailed_images(rows_B, round(config.detail * whole_B3SS.shape[-1]))
    squares = Squares(whole_B3SS, detailed_B3TT, images.ids(rows_B), images.background, rows_B)
    return embed_passes(encoder, squares, config)
