"""PARTICLE's objective: contrast of parts, of whole images, and the optional terms beside them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.equivariance import Equivariance
from ssl_parts.objectives.method import Method, uses_teacher
from ssl_parts.objectives.methods.dino import DinoTerm
from ssl_parts.objectives.network import Outputs, PartNetwork, split_views
from ssl_parts.objectives.part_contrast import PartContrast, mean_shared_parts

if TYPE_CHECKING:
    from ssl_parts.views import Views


class Particle(Method):
    """Weighted sum of up to four terms; a term of weight 0, or without part ids, is not computed.

    `part` (PartContrast over parts), `instance` (the same with one part, the whole image:
    InfoNCE), `equivariance` (Equivariance), `dino` (DinoTerm). `shared_parts` is a count, not a
    loss: parts an image that both views have.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.needs_parts = config.part_weight > 0 or config.equivariance_weight > 0
        self.has_teacher = uses_teacher(config)
        self.contrast = PartContrast(
            config.temperature, config.local_negatives, config.queue, config.projection
        )
        self.instance_contrast = PartContrast(config.temperature)
        self.equivariance = Equivariance(config.temperature)
        self.dino = DinoTerm(config) if config.dino_weight > 0 else None

    def network(self, encoder: Encoder, k: int = 0, background: int | None = None) -> nn.Module:
        return PartNetwork(
            encoder, self.config, k, None if self.config.include_background else background
        )

    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        config, terms = self.config, {}
        loss = torch.zeros((), device=student.pooled_ND.device)
        if student.part_NMD is not None:
            terms["part"], terms["shared_parts"] = self._parts(student, teacher)
            loss = loss + config.part_weight * terms["part"]
        if student.instance_ND is not None:
            terms["instance"] = self._instance(student.instance_ND, teacher.instance_ND)
            loss = loss + config.instance_weight * terms["instance"]
        if config.equivariance_weight > 0 and views is not None and views.ids_Ngg is not None:
            terms["equivariance"] = self.equivariance(student.map_NDHW, views)
            loss = loss + config.equivariance_weight * terms["equivariance"]
        if self.dino is not None:
            terms["dino"] = self.dino(student.dino_NP, teacher.dino_NP, progress)
            loss = loss + config.dino_weight * terms["dino"]
        return {"loss": loss, **terms}

    def before_update(self, network: nn.Module, progress: float) -> None:
        if self.dino is not None:
            self.dino.hold_prototypes(network.dino_head, progress)

    def _parts(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        ids, valid = split_views(student.ids_NM), split_views(student.valid_NM)
        loss = self.contrast(
            split_views(student.part_NMD), split_views(teacher.part_NMD), ids, valid
        )
        return loss, mean_shared_parts(ids, valid)

    def _instance(self, predictions_ND: Tensor, targets_ND: Tensor) -> Tensor:
        q, t = split_views(predictions_ND.unsqueeze(1)), split_views(targets_ND.unsqueeze(1))
        ids_B1 = torch.zeros(q[0].shape[:2], dtype=torch.long, device=q[0].device)
        valid_B1 = torch.ones_like(ids_B1, dtype=torch.bool)
        return self.instance_contrast(q, t, (ids_B1, ids_B1), (valid_B1, valid_B1))
