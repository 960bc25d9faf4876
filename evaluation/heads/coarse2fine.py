"""Coarse2Fine (Eshratifar et al., arXiv 1909.02680): attended feature maps are mapped back to the
image, and the image that they leave visible is classified again.

From the abstract: two training stages, the differentiable inverse mapping, orthogonal
initialisation of the attention. Everything else (pooling, layers of the mapping, the two
regularisers, the mean of both softmaxes) is reconstructed from the abstract. Formulas:
docs/method.md, section 3.

Shapes: B images, M attention maps, D channels, C classes, H W a map, S the image's side.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.config import Coarse2FineConfig
from evaluation.heads.head import Head, Localization, fp32
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


class Coarse2Fine(Head[Coarse2FineConfig]):
    """Stage 1: L = CE(y). Stage 2: L = CE(y) + CE(y_f) + 0.05 mean(r) + 0.05 TV(r), with y_f the
    logits of x_f = r x + (1 - r) mean colour; gradients reach the attention through r.

    Logits are the log of the mean of both passes' softmax, of the first pass alone until stage 2
    has begun. localize: the mean attention and the inverse map r.

    Raises:
        ConfigError: more maps than channels, whose rows cannot be orthonormal.
    """

    config_class = Coarse2FineConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: Coarse2FineConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, config, frozen)
        stage = encoder.last_stage
        dim = encoder.dims[stage]
        if config.maps > dim:
            raise ConfigError(
                f"head.maps={config.maps} but {encoder.name}'s last map has {dim} channels: at most "
                f"{dim}"
            )
        self.attention = nn.Conv2d(dim, config.maps, 1, bias=False)
        if config.orthogonal:
            nn.init.orthogonal_(self.attention.weight)
        self.classifier = nn.Linear(config.maps * dim, classes)
        self.inverse = InverseMapping(dim + config.maps, config.width, encoder.strides[stage])
        self.fine_begun: Tensor
        self.register_buffer("fine_begun", torch.tensor(False))

    def forward(self, images: Tensor) -> Tensor:
        logits, attended = self._classify(images)
        if not self.fine_begun:
            return logits
        fine, _ = self._classify(self.cut(images, self.inverse(attended, images.shape[-2:])))
        both = torch.stack([fp32(logits).log_softmax(-1), fp32(fine).log_softmax(-1)])
        return both.logsumexp(0) - math.log(2)

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        logits, attended = self._classify(images)
        coarse = F.cross_entropy(fp32(logits), labels)
        if progress < self.config.coarse:
            return {"loss": coarse, "coarse": coarse}
        self.fine_begun.fill_(True)
        r_B1SS = self.inverse(attended, images.shape[-2:])
        fine = F.cross_entropy(fp32(self._classify(self.cut(images, r_B1SS))[0]), labels)
        sparsity, smoothness = r_B1SS.mean(), total_variation(r_B1SS)
        total = (
            coarse + fine + self.config.sparsity * sparsity + self.config.smoothness * smoothness
        )
        return {
            "loss": total,
            "coarse": coarse,
            "fine": fine,
            "sparsity": sparsity,
            "smoothness": smoothness,
        }

    @torch.no_grad()
    def localize(self, images: Tensor) -> Localization:
        map_BDHW = self.encoder(images).maps[self.encoder.last_stage]
        attention_BMHW = self.attention(map_BDHW).relu()
        r_B1SS = self.inverse(attended_maps(map_BDHW, attention_BMHW), images.shape[-2:])
        return Localization(
            maps={"attention": fp32(attention_BMHW).mean(1), "inverse map": r_B1SS[:, 0]}
        )

    def cut(self, images: Tensor, r_B1SS: Tensor) -> Tensor:
        """What r leaves visible; the rest has the encoder's mean colour."""
        return r_B1SS * images + (1 - r_B1SS) * _colour_of(self.encoder)

    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        map_BDHW = self.encoder(images).maps[self.encoder.last_stage]
        attention_BMHW = self.attention(map_BDHW).relu()
        features_BF = bilinear_attention_pool(map_BDHW, attention_BMHW)
        return self.classifier(self.config.scale * features_BF), attended_maps(
            map_BDHW, attention_BMHW
        )


def _colour_of(encoder: Encoder) -> Tensor:
    """The encoder's mean colour (3,1,1)."""
    mean: Tensor = encoder.get_buffer("mean")
    return mean.view(3, 1, 1)


def bilinear_attention_pool(map_BDHW: Tensor, attention_BMHW: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean over positions of F * A_m for each map, concatenated (B, M*D), signed square root, unit
    length, in fp32.

    x / sqrt(|x| + eps) is the signed square root without its infinite slope at 0: an attention map
    that is zero everywhere gives zeros and finite gradients.
    """
    with torch.autocast(map_BDHW.device.type, enabled=False):
        pooled_BMD = torch.einsum("bdhw,bmhw->bmd", fp32(map_BDHW), fp32(attention_BMHW))
        pooled_BF = pooled_BMD.flatten(1) / map_BDHW.shape[-2:].numel()
        return F.normalize(pooled_BF / (pooled_BF.abs() + eps).sqrt(), dim=-1)


def attended_maps(map_BDHW: Tensor, attention_BMHW: Tensor) -> Tensor:
    """What the inverse mapping reads, (B, D+M, H, W): the features weighted by the mean attention,
    and the attention.

    All M products F * A_m would be M*D channels; the 1x1 convolution behind them sees a weighting
    of F by position either way, and this costs M times less.
    """
    return torch.cat([map_BDHW * attention_BMHW.mean(1, keepdim=True), attention_BMHW], 1)


class InverseMapping(nn.Module):
    """G: attended maps to r in (0,1), (B,1,S,S), by a 1x1 convolution and one doubling block for
    each factor 2 of the stride but the last (x2 upsampling, 3x3 convolution, batch norm, ReLU);
    the last factor, and a rest that is no power of 2, is interpolated on the one channel.

    The width halves with each doubling, so that all levels together cost less than a small
    encoder's pass.
    """

    def __init__(self, dim: int, width: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(dim, width, 1)]
        for _ in range(int(math.log2(stride)) - 1):
            narrower = max(min(8, width), width // 2)
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(width, narrower, 3, padding=1, bias=False),
            ]
            layers += [nn.BatchNorm2d(narrower), nn.ReLU()]
            width = narrower
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, attended_BAHW: Tensor, size: tuple[int, int]) -> Tensor:
        x_B1hw = self.layers(attended_BAHW)
        if x_B1hw.shape[-2:] != tuple(size):
            x_B1hw = F.interpolate(x_B1hw, size=tuple(size), mode="bilinear", align_corners=False)
        return fp32(x_B1hw).sigmoid()


def total_variation(r_B1SS: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down plus across."""
    return r_B1SS.diff(dim=-2).abs().mean() + r_B1SS.diff(dim=-1).abs().mean()
