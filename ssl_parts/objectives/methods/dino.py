"""DINO (Caron et al., arXiv 2104.14294) on the two views: self-distillation over learned
prototypes.

Shapes: N = 2B views of B images, P prototypes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.method import LossInputs, Method
from ssl_parts.objectives.network import Network, Outputs
from ssl_parts.objectives.prototypes import PrototypeLoss, build_prototype_head


@dataclass(frozen=True, kw_only=True)
class DinoOutputs(Outputs):
    """Outputs with logits over the prototypes, dino_NP."""

    dino_NP: Tensor


class DinoNetwork(Network[DinoOutputs]):
    """Encoder and prototype head; there is no predictor."""

    def __init__(self, encoder: Encoder, config: ObjectiveConfig) -> None:
        super().__init__(encoder)
        self.dino_head = build_prototype_head(encoder.feature_dim, config)

    def project(
        self, seen: Outputs, ids_Nhw: Tensor | None, priority_NK: Tensor | None, predict: bool
    ) -> DinoOutputs:
        return DinoOutputs(**vars(seen), dino_NP=self.dino_head(seen.pooled_ND))


class DINO(Method[DinoOutputs]):
    """`PrototypeLoss` alone, on pooled features (a ViT's CLS token); two global views, no local
    crops.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.term = PrototypeLoss(config.dino)

    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[DinoOutputs]:
        return DinoNetwork(encoder, self.config)

    def forward(self, inputs: LossInputs[DinoOutputs]) -> dict[str, Tensor]:
        """Compute `PrototypeLoss` on the logits of student and teacher (section 3.1).

        Returns:
            "loss" and the same as "dino".
        """
        loss = self.term(inputs.student.dino_NP, inputs.teacher.dino_NP, inputs.progress)
        return {"loss": loss, "dino": loss}

    def adjust_gradients(self, network: nn.Module, progress: float) -> None:
        self.term.hold_prototypes(network.get_submodule("dino_head"), progress)
