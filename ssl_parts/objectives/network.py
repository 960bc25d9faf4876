"""Encoder and heads: what the student trains and the teacher averages.

A network runs its encoder once and hands the features to its heads. Vectors are predictions from
the student and projections from the teacher, which leaves the predictors out.

Shapes: N views (both views of a batch stacked), V valid rows, K part ids, M sampled parts, D
channels, HxW feature grid, hxw grid of the ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.objectives.pooling import Parts, pool_parts


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What one forward pass of any network gives; each method's network adds its vectors.

    Attributes:
        pooled_ND: pooled features of the encoder, before any head.
        map_NDHW: its last map.
    """

    pooled_ND: Tensor
    map_NDHW: Tensor

    @property
    def sampled_parts(self) -> Parts | None:
        """The parts that were pooled, for monitors; None where the network pools none."""
        return None


@dataclass(frozen=True, kw_only=True)
class InstanceOutputs(Outputs):
    """Outputs with one vector per view of a whole image, instance_ND."""

    instance_ND: Tensor


@dataclass(frozen=True, kw_only=True)
class PartOutputs(Outputs):
    """Outputs with the vectors of sampled parts."""

    parts: Parts

    @property
    def sampled_parts(self) -> Parts:
        return self.parts


OutputsT = TypeVar("OutputsT", bound=Outputs)


class Network(nn.Module, ABC, Generic[OutputsT]):
    """An encoder under heads; sub-classes say which vectors the heads make of its features."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self,
        images_NCHW: Tensor,
        ids_Nhw: Tensor | None = None,
        priority_NK: Tensor | None = None,
        *,
        predict: bool = True,
    ) -> OutputsT:
        """Encode views and make their vectors.

        Args:
            images_NCHW: float RGB in [0, 1].
            ids_Nhw: part ids of the views, long, on any grid; for networks that pool parts.
            priority_NK: which ids are sampled first, highest first; equal in both views.
            predict: whether vectors go through the predictor; false for a teacher.
        """
        features = self.encoder(images_NCHW)
        seen = Outputs(pooled_ND=features.pooled, map_NDHW=features.maps[self.encoder.last_stage])
        return self.project(seen, ids_Nhw, priority_NK, predict)

    @abstractmethod
    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> OutputsT:
        """Run the heads on what the encoder gave; the arguments are those of `forward`."""


class Heads(nn.Module):
    """Projector g, and predictor h that the student alone uses; without h predictions are g's."""

    def __init__(self, projector: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.projector = projector
        self.predictor = nn.Identity() if predictor is None else predictor

    def forward(self, vectors_ND: Tensor, predict: bool) -> Tensor:
        """Return h(g(x)), or g(x) without `predict`."""
        projected_ND = self.projector(vectors_ND)
        return self.predictor(projected_ND) if predict else projected_ND


class PartHeads(nn.Module):
    """Pools a map over sampled parts and runs heads on each part.

    Args:
        heads: run on every valid part alike.
        k: number of part ids that discovery gives.
        samples: parts that are taken from each view.
        background: id that is never pooled, or None.
    """

    def __init__(self, heads: Heads, k: int, samples: int, background: int | None = None) -> None:
        super().__init__()
        self.heads, self.k, self.samples, self.background = heads, k, samples, background

    def forward(
        self, map_NDHW: Tensor, ids_Nhw: Tensor, priority_NK: Tensor | None, predict: bool
    ) -> Parts:
        """Pool each sampled part and return its vector behind the heads."""
        parts = pool_parts(
            map_NDHW,
            ids_Nhw,
            self.k,
            self.samples,
            priority_BK=priority_NK,
            background=self.background,
        )
        vectors_NMD = apply_to_valid_rows(
            partial(self.heads, predict=predict), parts.vectors_BMD, parts.valid_BM
        )
        return replace(parts, vectors_BMD=vectors_NMD)


class InstanceNetwork(Network[InstanceOutputs]):
    """Encoder and heads of whole images; part ids are not looked at."""

    def __init__(self, encoder: Encoder, heads: Heads) -> None:
        super().__init__(encoder)
        self.heads = heads

    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> InstanceOutputs:
        return InstanceOutputs(**vars(seen), instance_ND=self.heads(seen.pooled_ND, predict))


class PartNetwork(Network[PartOutputs]):
    """Encoder, projector g and predictor h of parts.

    Args:
        encoder: any `Encoder`; its last map is pooled.
        k: number of part ids that discovery gives.
        samples: M, parts that are taken from each view.
        hidden, projection: width of the heads, and D of their output.
        predictor: whether there is an h; without it predictions are projections.
        background: id that is never pooled, or None.
    """

    def __init__(
        self,
        encoder: Encoder,
        k: int,
        *,
        samples: int = 10,
        hidden: int = 4096,
        projection: int = 256,
        predictor: bool = True,
        background: int | None = None,
    ) -> None:
        super().__init__(encoder)
        heads = build_heads(encoder.dims[encoder.last_stage], hidden, projection, predictor)
        self.part_heads = PartHeads(heads, k, samples, background)

    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> PartOutputs:
        if ids_Nhw is None:
            raise ConfigError(
                "a PartNetwork pools parts, but was given ids_Nhw=None; pass part ids"
            )
        parts = self.part_heads(seen.map_NDHW, ids_Nhw, priority_NK, predict)
        return PartOutputs(**vars(seen), parts=parts)


def build_heads(channels: int, hidden: int, projection: int, predictor: bool) -> Heads:
    """Build g, and h where asked for: Linear, LayerNorm, ReLU, Linear each.

    The heads of DetCon (section 3) and PARTICLE with LayerNorm in place of batch norm, as in the
    released code of PARTICLE: no row sees another.
    """
    return Heads(
        build_mlp(channels, hidden, projection),
        build_mlp(projection, hidden, projection) if predictor else None,
    )


def build_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build Linear, LayerNorm, ReLU, Linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def apply_to_valid_rows(
    head: Callable[[Tensor], Tensor], vectors_NMD: Tensor, valid_NM: Tensor
) -> Tensor:
    """Run a head on each valid row; the others are zero.

    On a GPU all rows go through and the output of the others means nothing: to count them the host
    would have to wait.
    """
    if vectors_NMD.device.type != "cpu":
        return head(vectors_NMD)
    rows_VD = head(vectors_NMD[valid_NM])
    out_NMD = rows_VD.new_zeros(*valid_NM.shape, rows_VD.shape[-1])
    return out_NMD.masked_scatter(valid_NM.unsqueeze(-1), rows_VD)


def split_views(stacked_N: Tensor) -> tuple[Tensor, Tensor]:
    """Split stacked views: rows 0..B-1 are view 1, rows B..2B-1 view 2 of the same images."""
    one, two = stacked_N.chunk(2)
    return one, two


def split_parts(parts: Parts) -> tuple[tuple[Tensor, Tensor], ...]:
    """Split stacked parts: (vectors, ids, valid), each as its two views."""
    return split_views(parts.vectors_BMD), split_views(parts.ids_BM), split_views(parts.valid_BM)
