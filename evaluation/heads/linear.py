"""The yardstick: pooled features and one linear layer. With a fine-tuned encoder it is plain
fine-tuning, with a frozen one a linear probe trained by gradient descent."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.head import Head, Looks, energy, fp32
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


@dataclass
class LinearConfig:
    name: str = "linear"  # key of evaluation.heads.HEADS
    # of the classifier's initial weights; 0 starts every image at equal odds
    init_std: float = 0.01

    def check(self) -> None:
        if self.init_std < 0:
            raise ConfigError(f"head.init_std={self.init_std} must be at least 0")


class Linear(Head):
    """Cross-entropy of a linear layer on `Features.pooled`. looks: the length of the last map's
    vectors.
    """

    config_class = LinearConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: LinearConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, frozen)
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
    def looks(self, images: Tensor) -> Looks:
        return Looks(maps={"energy": energy(self.encoder(images).maps[self.encoder.last_stage])})
