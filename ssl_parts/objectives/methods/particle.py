"""PARTICLE's objective (Saha & Maji, arXiv 2309.13822): contrast of parts, of whole images, and the
optional terms beside them.

Shapes: N = 2B views of B images, M sampled parts, D channels, P prototypes.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig, Targets
from ssl_parts.objectives.equivariance import Equivariance
from ssl_parts.objectives.method import LossInputs, Method
from ssl_parts.objectives.network import (
    Network,
    Outputs,
    PartHeads,
    build_heads,
    split_parts,
    split_views,
)
from ssl_parts.objectives.part_contrast import PartContrast, average_shared_parts
from ssl_parts.objectives.pooling import Parts
from ssl_parts.objectives.prototypes import PrototypeLoss, build_prototype_head

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ParticleOutputs(Outputs):
    """Outputs with the vectors of every term that is trained; those of the others are None.

    Attributes:
        parts: vectors of sampled parts; None also in a phase without part ids.
        instance_ND: one vector per view of a whole image.
        dino_NP: logits over prototypes.
    """

    parts: Parts | None = None
    instance_ND: Tensor | None = None
    dino_NP: Tensor | None = None

    @property
    def sampled_parts(self) -> Parts | None:
        return self.parts


Inputs = LossInputs[ParticleOutputs]


class ParticleNetwork(Network[ParticleOutputs]):
    """Encoder and one pair of heads per term: parts, whole images, prototypes.

    Args:
        encoder: any `Encoder`; parts are pooled from its last map, images are its pooled features.
        config: which terms exist, and the widths of their heads.
        k: number of part ids; 0 in a phase without parts.
        background: id that is never pooled, or None.
    """

    def __init__(
        self, encoder: Encoder, config: ObjectiveConfig, k: int = 0, background: int | None = None
    ) -> None:
        super().__init__(encoder)
        # a predictor belongs to a teacher: where the student's own projections are the targets
        # (DetCon-S), both sides move towards each other
        widths = (config.hidden, config.projection, config.targets is Targets.teacher)
        terms, channels = config.particle, encoder.dims[encoder.last_stage]
        self.part_heads = self.image_heads = self.dino_head = None
        if terms.part_weight > 0 and k > 0:
            heads = build_heads(channels, *widths)
            self.part_heads = PartHeads(heads, k, config.samples, background)
        if terms.instance_weight > 0:
            self.image_heads = build_heads(encoder.feature_dim, *widths)
        if terms.dino_weight > 0:
            self.dino_head = build_prototype_head(encoder.feature_dim, config)

    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> ParticleOutputs:
        parts = instance_ND = dino_NP = None
        if self.part_heads is not None and ids_Nhw is not None:
            parts = self.part_heads(seen.map_NDHW, ids_Nhw, priority_NK, predict)
        if self.image_heads is not None:
            instance_ND = self.image_heads(seen.pooled_ND, predict)
        if self.dino_head is not None:
            dino_NP = self.dino_head(seen.pooled_ND)
        return ParticleOutputs(**vars(seen), parts=parts, instance_ND=instance_ND, dino_NP=dino_NP)


class Particle(Method[ParticleOutputs]):
    """Weighted sum of up to four terms; one of weight 0, or without part ids, is not computed."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        terms = config.particle
        self.has_teacher = config.targets is Targets.teacher
        self.weights = {
            "part": terms.part_weight,
            "instance": terms.instance_weight,
            "equivariance": terms.equivariance_weight,
            "dino": terms.dino_weight,
        }
        self.contrast = PartContrast(
            config.temperature, terms.local_negatives, terms.queue, config.projection
        )
        self.instance_contrast = PartContrast(config.temperature)
        self.equivariance = Equivariance(config.temperature)
        self.dino = PrototypeLoss(config.dino) if terms.dino_weight > 0 else None

    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[ParticleOutputs]:
        # DetCon and PARTICLE contrast the background like a part; by default ours leaves it out,
        # because it fills most of a photograph and says little about what is on it
        pooled = self.config.particle.include_background
        return ParticleNetwork(encoder, self.config, k, None if pooled else background)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        r"""Compute the weighted sum of the terms.

        .. math::
            L = w_p L_\mathrm{part} + w_i L_\mathrm{instance}
              + w_e L_\mathrm{equivariance} + w_d L_\mathrm{dino}

        - part (PARTICLE, section 3; DetCon, section 3): `PartContrast` over the M sampled parts of
          each view. The two views of a part attract, all other parts of the global batch repel.
        - instance: the same with one part, the whole image: InfoNCE (arXiv 1807.03748, section
          2.3). The wing must be told from other wings, and the bird from other birds.
        - equivariance: `Equivariance` of the two maps (ours).
        - dino: `PrototypeLoss` on whole images, in the paper's recipe for ViTs.

        Returns:
            The unweighted terms that are trained, "loss", their weighted sum, and with parts
            "shared_parts", which is no loss but a count: parts per image that both views have.
        """
        terms = {
            **self._compare_parts(inputs),
            **self._compare_images(inputs),
            **self._compare_maps(inputs),
            **self._compare_prototypes(inputs),
        }
        loss = torch.zeros((), device=inputs.student.pooled_ND.device)
        for name, weight in self.weights.items():
            if name in terms:
                loss = loss + weight * terms[name]
        return {"loss": loss, **terms}

    def adjust_gradients(self, network: nn.Module, progress: float) -> None:
        if self.dino is not None:
            self.dino.hold_prototypes(network.get_submodule("dino_head"), progress)

    def _compare_parts(self, inputs: Inputs) -> dict[str, Tensor]:
        found = _both(inputs.student.parts, inputs.teacher.parts)
        if found is None:
            return {}
        # Ids and validity are the student's: both networks see the same views, so the teacher
        # samples the same parts. A part that only one view shows has no positive; it is a negative
        # of the others all the same.
        predictions, ids, valid = split_parts(found[0])
        targets, _, _ = split_parts(found[1])
        loss = self.contrast(predictions, targets, ids, valid)
        return {"part": loss, "shared_parts": average_shared_parts(ids, valid)}

    def _compare_images(self, inputs: Inputs) -> dict[str, Tensor]:
        found = _both(inputs.student.instance_ND, inputs.teacher.instance_ND)
        if found is None:
            return {}
        # A whole image is a part contrast with M = 1: one id, always present
        predictions, targets = (split_views(vectors_ND.unsqueeze(1)) for vectors_ND in found)
        device = predictions[0].device
        ids_B1 = torch.zeros(predictions[0].shape[:2], dtype=torch.long, device=device)
        valid_B1 = torch.ones_like(ids_B1, dtype=torch.bool)
        loss = self.instance_contrast(predictions, targets, (ids_B1, ids_B1), (valid_B1, valid_B1))
        return {"instance": loss}

    def _compare_maps(self, inputs: Inputs) -> dict[str, Tensor]:
        views = inputs.views
        if not self.weights["equivariance"] or views is None:
            return {}
        if views.ids_Ngg is None or views.priority_NK is None:
            return {}
        # No teacher here: both maps move towards each other. Part contrast keeps them from
        # agreeing by being the same everywhere.
        k = views.priority_NK.shape[1]
        map_NDHW = inputs.student.map_NDHW
        return {"equivariance": self.equivariance(map_NDHW, views.ids_Ngg, views.theta_N23, k)}

    def _compare_prototypes(self, inputs: Inputs) -> dict[str, Tensor]:
        found = _both(inputs.student.dino_NP, inputs.teacher.dino_NP)
        if self.dino is None or found is None:
            return {}
        return {"dino": self.dino(*found, inputs.progress)}


def _both(student: T | None, teacher: T | None) -> tuple[T, T] | None:
    """The vectors of one term from both networks; None where the term is not trained."""
    return None if student is None or teacher is None else (student, teacher)
