"""Encoder and heads: what the student trains and the teacher averages.

Shapes: N views (both views of a batch stacked), K part ids, M sampled parts, D channels, HxW
feature grid, hxw grid of the ids, P prototypes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig, Targets
from ssl_parts.objectives.dino_head import dino_head
from ssl_parts.objectives.pooling import pool_parts


@dataclass(frozen=True)
class Outputs:
    """What one forward gives. Vectors are predictions from the student and projections from the
    teacher.
    """

    pooled_ND: Tensor  # encoder features, before any head
    map_NDHW: Tensor
    instance_ND: Tensor | None = None
    part_NMD: Tensor | None = None
    ids_NM: Tensor | None = None
    valid_NM: Tensor | None = None
    dino_NP: Tensor | None = None  # logits over P prototypes


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, LayerNorm, ReLU, Linear: the heads g and h of METHODS §1.4; no row sees another."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class InstanceNetwork(nn.Module):
    """Encoder, projector and predictor of whole images; part ids are not looked at."""

    def __init__(self, encoder: Encoder, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor

    def forward(
        self,
        images_NCHW: Tensor,
        ids_Nhw: Tensor | None = None,
        priority_NK: Tensor | None = None,
        *,
        predict: bool = True,
    ) -> Outputs:
        """Features and image vectors; the teacher leaves the predictor out (`predict=False`)."""
        features = self.encoder(images_NCHW)
        image_ND = self.projector(features.pooled)
        map_NDHW = features.maps[self.encoder.last_stage]
        return Outputs(features.pooled, map_NDHW, self.predictor(image_ND) if predict else image_ND)


class PartNetwork(nn.Module):
    """Encoder, projector g and predictor h for parts, the same pair for whole images, a DINO head
    where asked for.

    Args:
        encoder: any `Encoder`.
        config: widths of the heads, number of sampled parts, which terms exist.
        k: number of part ids that discovery gives (0 where no part term is trained).
        background: id that is never pooled, or None.
    """

    def __init__(
        self, encoder: Encoder, config: ObjectiveConfig, k: int = 0, background: int | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.k, self.samples, self.background = encoder, k, config.samples, background
        dim, width, out = encoder.dims[encoder.last_stage], config.hidden, config.projection
        self.has_parts, self.has_instances = (
            config.part_weight > 0 and k > 0,
            config.instance_weight > 0,
        )
        self.has_predictors = config.targets is Targets.teacher
        if self.has_parts:
            self.part_projector = mlp(dim, width, out)
            self.part_predictor = mlp(out, width, out) if self.has_predictors else nn.Identity()
        if self.has_instances:
            self.projector = mlp(encoder.feature_dim, width, out)
            self.predictor = mlp(out, width, out) if self.has_predictors else nn.Identity()
        self.dino_head = dino_head(encoder.feature_dim, config) if config.dino_weight > 0 else None

    def forward(
        self,
        images_NCHW: Tensor,
        ids_Nhw: Tensor | None = None,
        priority_NK: Tensor | None = None,
        *,
        predict: bool = True,
    ) -> Outputs:
        """Features, part vectors and image vectors; the teacher leaves the predictors out
        (`predict=False`).
        """
        features = self.encoder(images_NCHW)
        found: dict[str, Tensor] = {
            "pooled_ND": features.pooled,
            "map_NDHW": features.maps[self.encoder.last_stage],
        }
        if self.has_instances:
            image_ND = self.projector(features.pooled)
            found["instance_ND"] = self.predictor(image_ND) if predict else image_ND
        if self.dino_head is not None:
            found["dino_NP"] = self.dino_head(features.pooled)
        if self.has_parts and ids_Nhw is not None:
            parts = pool_parts(
                found["map_NDHW"],
                ids_Nhw,
                self.k,
                self.samples,
                priority_BK=priority_NK,
                background=self.background,
            )
            part_NMD = valid_rows_through(self.part_projector, parts.vectors_BMD, parts.valid_BM)
            if predict and self.has_predictors:
                part_NMD = valid_rows_through(self.part_predictor, part_NMD, parts.valid_BM)
            found["part_NMD"] = part_NMD
            found["ids_NM"], found["valid_NM"] = parts.ids_BM, parts.valid_BM
        return Outputs(**found)


def valid_rows_through(head: nn.Module, vectors_NMD: Tensor, valid_NM: Tensor) -> Tensor:
    """The head's output for each valid row, zero elsewhere.

    On a GPU all rows go through and the output of the others means nothing: to count them the host
    would have to wait.
    """
    if vectors_NMD.device.type != "cpu":
        return head(vectors_NMD)
    rows_VD = head(vectors_NMD[valid_NM])
    out_NMD = rows_VD.new_zeros(*valid_NM.shape, rows_VD.shape[-1])
    return out_NMD.masked_scatter(valid_NM.unsqueeze(-1), rows_VD)


def split_views(stacked_N: Tensor) -> tuple[Tensor, Tensor]:
    """Rows 0..B-1 are view 1, rows B..2B-1 view 2 of the same images."""
    one, two = torch.chunk(stacked_N, 2)
    return one, two
