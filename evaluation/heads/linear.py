"""The yardstick: pooled features and one linear layer. With a fine-tuned encoder it is plain
fine-tuning, with a frozen one a linear probe trained by gradient descent."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.config import LinearConfig
from evaluation.heads.head import Head, Localization, energy, fp32
from ssl_parts.encoders import Encoder


class Linear(Head[LinearConfig]):
    """Cross-entropy of a linear layer on `Features.pooled`. localize: the length of the last map's
    vectors.
    """

    config_class = LinearConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: LinearConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, config, frozen)
        self.classifier = nn.Linear(encoder.feature_dim, classes)
        nn.init.normal_(self.classifier.weight, std=config.init_std)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.encoder(images).pooled)

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(fp32(self(images)), labels)}

    @torch.no_grad()
    def localize(self, images: Tensor) -> Localization:
        return Localization(
            maps={"energy": energy(self.encoder(images).maps[self.encoder.last_stage])}
        )
