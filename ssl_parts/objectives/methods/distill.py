"""Part-crop self-distillation (ours): one pass over a view learns what the frozen encoder knows
from several passes over the image, its found object and its found parts.

Relatives: knowledge distillation (Hinton et al., arXiv 1503.02531), distilling the average over
transformed inputs (data distillation, Radosavovic et al., arXiv 1712.04440), a frozen encoder's
features as target (FitNets, arXiv 1412.6550), and local crops that learn from global ones (DINO,
arXiv 2104.14294): here the other way round, and at places that part discovery found.

Shapes: R training images, B images of a step, M crops per image, D channels, SxS pixels.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.errors import ConfigError
from ssl_parts.objectives.config import Crops, DistillConfig
from ssl_parts.objectives.method import LossInputs, Method, TrainingImages
from ssl_parts.objectives.network import Network, Outputs
from ssl_parts.parts.crops import FoundBoxes, find_boxes, scatter_boxes, to_windows
from ssl_parts.views import ViewPlan, ViewsConfig, plan_views
from ssl_parts.views.resample import crop_and_resize

# x0 y0 x1 y1 of `crops=corners`, as shares of the image
CORNERS = [[0, 0, 0.6, 0.6], [0.4, 0, 1, 0.6], [0, 0.4, 0.6, 1], [0.4, 0.4, 1, 1]]
LEAST_DEVIATION = 1e-3  # of a teacher's channel, so that a dead one is not blown up
SEED = 0  # of the places of `crops=random`


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
        found = config.crops not in (Crops.corners, Crops.none)
        if found and images.k == 0:
            raise ConfigError(
                f"objective.distill.crops={config.crops.value} needs part ids, but this phase has "
                "none; set objective.distill.crops=corners or none, or train with parts"
            )
        teacher_RD = images.make_once(
            "teacher", lambda rows_B: embed_crops(encoder, images, rows_B, config)
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


@torch.no_grad()
def embed_crops(
    encoder: Encoder, images: TrainingImages, rows_B: Tensor, config: DistillConfig
) -> Tensor:
    """Mean of the pooled features of image, flip and crops, float (B,D) on the encoder's device."""
    device = next(encoder.parameters()).device
    whole_B3SS = images.images(rows_B).to(device)

    def embed(pixels_B3SS: Tensor) -> Tensor:
        fast_B3SS = pixels_B3SS.to(device).contiguous(memory_format=torch.channels_last)
        return encoder(fast_B3SS).pooled.float()

    with evaluating(encoder):
        total_BD = embed(whole_B3SS.float() / 255) + embed(whole_B3SS.flip(3).float() / 255)
        count_B1 = torch.full((len(rows_B), 1), 2.0, device=device)
        for crops_B3SS, valid_B in cut_crops(images, rows_B, whole_B3SS.shape[-1], config):
            valid_B1 = valid_B.to(device)[:, None]
            total_BD += embed(crops_B3SS) * valid_B1
            count_B1 += valid_B1
    return total_BD / count_B1


def cut_crops(
    images: TrainingImages, rows_B: Tensor, size: int, config: DistillConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops of each image, one after the other: float (B,3,size,size) in [0, 1], and bool (B,)
    where there is one.
    """
    if config.crops is Crops.none:
        return
    found = choose_boxes(images, rows_B, config)
    detailed_B3TT = images.detailed_images(rows_B, round(config.detail * size))
    upright_B = torch.zeros(len(rows_B), dtype=torch.bool)
    for boxes_B4, valid_B in zip(found.boxes_BM4.unbind(1), found.valid_BM.unbind(1), strict=True):
        windows_B4 = to_windows(boxes_B4, detailed_B3TT.shape[-1])
        yield crop_and_resize(detailed_B3TT, windows_B4, upright_B, size), valid_B


def choose_boxes(images: TrainingImages, rows_B: Tensor, config: DistillConfig) -> FoundBoxes:
    """The boxes that `config.crops` names, of each image."""
    if config.crops is Crops.corners:
        boxes_BM4 = torch.tensor(CORNERS).expand(len(rows_B), -1, -1)
        return FoundBoxes(boxes_BM4, torch.ones(boxes_BM4.shape[:2], dtype=torch.bool))
    ids_Bhw = images.ids(rows_B)
    assert ids_Bhw is not None, "prepare has looked for them"
    found = find_boxes(ids_Bhw, images.background, config.parts, config.margin, config.part_side)
    if config.crops is Crops.object:
        return FoundBoxes(found.boxes_BM4[:, :1], found.valid_BM[:, :1])
    if config.crops is Crops.random:
        generator = torch.Generator().manual_seed(SEED)
        places_RM2 = torch.rand(len(images), found.valid_BM.shape[1], 2, generator=generator)
        return replace(found, boxes_BM4=scatter_boxes(found.boxes_BM4, places_RM2[rows_B]))
    return found
