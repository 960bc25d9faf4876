"""TDSA-Loss (Chang et al., arXiv 2102.00367): channels that belong to classes, and a high stage
that gates the middle stage.

Published, from the text and the released code: both terms, the masks, the gating, weights and
schedule, VGG16-BN with widened convolutions. Reconstructed: the 1x1 convolutions that give any
other encoder its class channels. Formulas: docs/method.md, section 2.

Shapes: B images, C classes, X channels of one class, D = C*X, H W a map, N = H*W positions.
"""

from collections.abc import Sequence
from typing import cast

import torch
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.config import TDSAConfig
from evaluation.heads.head import Head, Localization, LoneBatchNorm1d, choose_stages, fp32
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


class TDSA(Head[TDSAConfig]):
    """Cross-entropy + 1.5 L_dis + 15 L_div of the gated middle stage + the same of the high stage.

    Gating is not detached, so the middle stage's loss trains the high stage too, and it acts
    inside that loss only: the classifier never sees a gated map. Any encoder gets a 1x1
    convolution, batch norm and ReLU to the class channels at two stages; `widen` instead widens
    VGG's own convolutions, the paper's configuration (configs/head/tdsa_vgg16.yaml). localize: the
    channel groups of the predicted class at both stages, and the attention between them.

    Raises:
        ConfigError: stages that are not the encoder's; `widen` with another network than a VGG
            with batch norm.
    """

    config_class = TDSAConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: TDSAConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, config, frozen)
        self.mid, self.high = choose_stages(encoder, config.mid, config.high)
        widths = {
            self.mid: classes * config.mid_channels,
            self.high: classes * config.high_channels,
        }
        if config.widen:
            widen_vgg(encoder, widths, frozen)
            self.to_mid, self.to_high = nn.Identity(), nn.Identity()
        else:
            self.to_mid = class_channels(encoder.dims[self.mid], widths[self.mid])
            self.to_high = class_channels(encoder.dims[self.high], widths[self.high])
        flat = widths[self.high] * config.grid**2
        self.classifier = nn.Sequential(
            LoneBatchNorm1d(flat),
            nn.Linear(flat, config.hidden),
            LoneBatchNorm1d(config.hidden),
            nn.ELU(),
            nn.Linear(config.hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self._classify(self._maps(images)[1])

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        mid, high = self._maps(images)
        terms = {"cross_entropy": F.cross_entropy(fp32(self._classify(high)), labels)}
        if self.config.gating:
            mid = mid * top_down_attention(
                high, self.config.mid_channels // self.config.high_channels, mid.shape[-2:]
            )
        total = terms["cross_entropy"]
        for name, map_BDHW in (("mid", mid), ("high", high)):
            mask_CX = class_masks(self.classes, map_BDHW.shape[1] // self.classes, generator).to(
                map_BDHW.device
            )
            terms[f"{name}_dis"] = discriminality(map_BDHW, mask_CX, labels)
            terms[f"{name}_div"] = diversity(map_BDHW, self.classes)
            total = total + self.config.discriminality * terms[f"{name}_dis"]
            total = total + self.config.diversity * terms[f"{name}_div"]
        return {"loss": total, **terms}

    @torch.no_grad()
    def localize(self, images: Tensor) -> Localization:
        mid, high = self._maps(images)
        chosen_B = self._classify(high).argmax(1)
        attention = top_down_attention(high, 1, mid.shape[-2:])
        groups = {"mid": mid, "high": high, "attention": attention}
        maps = {}
        for name, map_BDHW in groups.items():
            group_BXHW = fp32(map_BDHW).unflatten(1, (self.classes, -1))[
                torch.arange(len(images)), chosen_B
            ]
            if name == "attention":
                maps[name] = group_BXHW.mean(1)
            else:
                maps.update(
                    {f"{name} channel {x}": group_BXHW[:, x] for x in range(group_BXHW.shape[1])}
                )
        return Localization(maps=maps)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.encoder(images, (self.mid, self.high)).maps
        return self.to_mid(maps[self.mid]), self.to_high(maps[self.high])

    def _classify(self, high_BDHW: Tensor) -> Tensor:
        if min(high_BDHW.shape[-2:]) > 1:
            high_BDHW = F.max_pool2d(high_BDHW, 2)
        # At the paper's 224 px the pooled map is 7 x 7 already, and this leaves it as it is.
        return self.classifier(F.adaptive_avg_pool2d(high_BDHW, self.config.grid).flatten(1))


def class_channels(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(dim, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def class_masks(classes: int, channels: int, generator: torch.Generator | None = None) -> Tensor:
    """Random 0/1 mask (C,X), one row per class, with ceil(X/2) ones: 2 of 3, 3 of 6, 5 of 9."""
    order_CX = torch.rand(classes, channels, generator=generator).argsort(1)
    return (order_CX < -(-channels // 2)).float()


def discriminality(map_BDHW: Tensor, mask_CX: Tensor, labels_B: Tensor) -> Tensor:
    """L_dis: cross-entropy of y_c = spatial mean of the maximum over class c's masked channels."""
    classes = mask_CX.shape[0]
    grouped_BCXHW = fp32(map_BDHW).unflatten(1, (classes, -1)) * mask_CX[:, :, None, None]
    return F.cross_entropy(grouped_BCXHW.amax(2).mean((-2, -1)), labels_B)


def diversity(map_BDHW: Tensor, classes: int) -> Tensor:
    """L_div = 1 - mean(h_c)/X in [0, 1 - 1/X], h_c = sum over positions of the maximum over class
    c's channels, each a softmax over positions: 0 when the channels of a class respond at different
    places, largest when they all agree."""
    share_BCXN = fp32(map_BDHW).flatten(2).softmax(-1).unflatten(1, (classes, -1))
    return 1 - share_BCXN.amax(2).sum(-1).mean() / share_BCXN.shape[2]


def top_down_attention(high_BDHW: Tensor, repeat: int, size: Sequence[int]) -> Tensor:
    """A = sigmoid of the high map, nearest-neighbour resized to `size`; channel j of a class
    `repeat` times in a row, so that it gates the `repeat` middle channels j*repeat .. of the same
    class."""
    resized_BDHW = F.interpolate(high_BDHW, size=list(size), mode="nearest")
    return resized_BDHW.sigmoid().repeat_interleave(repeat, dim=1)


def widen_vgg(encoder: Encoder, widths: dict[str, int], frozen: bool) -> None:
    """Give the last convolution of each named VGG stage so many channels, with new weights there
    and in the next one.

    Raises:
        ConfigError: not a VGG with batch norm, a frozen one (new convolutions must be trained), or
            the pooled stage.
    """
    model = encoder.model
    if not isinstance(model, VGG) or not model.use_norm:
        raise ConfigError(
            f"head.widen is for VGGs with batch norm (vgg16_bn, ...), and {encoder.name} is none"
        )
    if frozen:
        raise ConfigError(
            "head.widen puts new convolutions into the encoder, which must then be trained, not "
            "frozen"
        )
    ends = dict(zip(encoder.stages, model.feature_ends, strict=True))
    for stage, width in widths.items():
        if not isinstance(model.features[ends[stage]], nn.ReLU):
            raise ConfigError(
                f"head: {stage} of {encoder.name} ends in a pooling; widen one that ends in a "
                "convolution"
            )
        _widen(model.features, ends[stage], width)
    for stage, end in ends.items():  # a pooling keeps the channels before it
        norms = [layer for layer in model.features[: end + 1] if isinstance(layer, nn.BatchNorm2d)]
        encoder.dims[stage] = norms[-1].num_features
    encoder.feature_dim = encoder.dims[encoder.last_stage]


def _widen(layers: nn.Sequential, end: int, width: int) -> None:
    """Widen the convolution whose ReLU is at index `end`, and the input of the next one."""
    last = cast(nn.Conv2d, layers[end - 2])
    layers[end - 2] = _conv_like(last, last.in_channels, width)
    layers[end - 1] = nn.BatchNorm2d(width)
    for i in range(end, len(layers)):
        following = layers[i]
        if isinstance(following, nn.Conv2d):
            layers[i] = _conv_like(following, width, following.out_channels)
            return


def _conv_like(conv: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    side, padding = conv.kernel_size[0], cast(tuple[int, int], conv.padding)
    new = nn.Conv2d(inputs, outputs, side, padding=padding)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new
