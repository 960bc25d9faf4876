"""What every supervised head shares: an encoder of any family, frozen or not, logits, loss terms,
and where in an image it finds its evidence.

Shapes: B images, C classes, D channels, H W a map or an image, R boxes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.config import HeadConfig
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=HeadConfig)


@dataclass(frozen=True)
class Localization:
    """Where a head finds its evidence in images, for pictures and for the measured overlap.

    maps: name -> (B,h,w), non-negative, any size: the larger, the more the head uses that place.
    boxes: name -> (B,R,4), x0 y0 x1 y1 as shares of the image.
    valid: name of boxes -> (B,R) bool, False where the method found no such region.
    """

    maps: dict[str, Tensor] = field(default_factory=dict)
    boxes: dict[str, Tensor] = field(default_factory=dict)
    valid: dict[str, Tensor] = field(default_factory=dict)


class Head(nn.Module, ABC, Generic[SettingsT]):
    """A classifier on an encoder: `forward(images) -> logits`, `loss(images, labels) -> terms`,
    the total under "loss".

    Images are float RGB (B,3,H,W) in [0,1]; the encoder normalises them itself. A frozen encoder
    keeps its weights and its batch-norm statistics, yet lets gradients through to its input
    (Coarse2Fine's mask needs them).

    Raises:
        ConfigError: no class to tell.
    """

    config_class: ClassVar[type[HeadConfig]]

    def __init__(
        self, encoder: Encoder, classes: int, config: SettingsT, frozen: bool = False
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ConfigError(
                f"classes={classes}: a head needs at least one class; does the data set have "
                "labels?"
            )
        self.encoder = encoder
        self.classes = classes
        self.config = config
        self.frozen = frozen
        if frozen:
            encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def encoders(self) -> list[Encoder]:
        """The networks that came in from outside (for their own learning rate); more than one
        where streams have each its own."""
        return [self.encoder]

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,C) of images (B,3,H,W) in [0,1]."""

    @abstractmethod
    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Scalar terms of a batch, the total under "loss".

        Args:
            images, labels: (B,3,H,W) in [0,1], long (B,).
            progress: share of the training that is done, in [0,1]; methods with training stages
                read it.
            generator: where random numbers come from (None: torch's global one); a trainer seeds
                one by the step.
        """

    @abstractmethod
    def localize(self, images: Tensor) -> Localization:
        """Where the head finds its evidence in images (B,3,H,W); takes no gradient.

        Switch the head to evaluation mode first.
        """


def fp32(x: Tensor) -> Tensor:
    """At least single precision: losses and softmaxes do not run in bf16 or fp16."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def energy(map_BDHW: Tensor) -> Tensor:
    """Length of the feature vector at each position, (B,H,W): what an encoder attends to where
    nothing says better.
    """
    return fp32(map_BDHW).norm(dim=1)


def choose_stages(encoder: Encoder, mid: str | None, high: str | None) -> tuple[str, str]:
    """Two stages of an encoder, names given or chosen: the last one, and the last but one before
    it.

    A ViT's blocks all have one stride and neighbours hardly differ, so its middle stage is the
    block at two thirds of the depth. MobileNet's and EfficientNet's "head" is a widening of their
    last stage, no stage of its own.

    Raises:
        ConfigError: a stage the encoder does not have, the same one twice, or an encoder with a
            single stage.
    """
    high = high or encoder.last_stage
    encoder.check_stages((high,))
    earlier = list(encoder.stages[: encoder.stages.index(high)])
    if high == "head":
        earlier = earlier[:-1]
    if mid is None and not earlier:
        raise ConfigError(
            f"{encoder.name} has no stage before {high}: TDSA needs two; set head.mid and head.high"
        )
    if mid is None:
        blocks = high.startswith("block")
        mid = (
            earlier[min(len(earlier) - 1, 2 * (len(earlier) + 1) // 3 - 1)]
            if blocks
            else earlier[-1]
        )
    encoder.check_stages((mid,))
    if mid == high:
        raise ConfigError(
            f"head.mid={mid} and head.high={high} are the same stage of {encoder.name}; choose two"
        )
    return mid, high


class LoneBatchNorm1d(nn.BatchNorm1d):
    """Batch norm that takes its running statistics for a batch of one, which has no variance of
    its own.

    The last batch of an epoch can have one image, and nn.BatchNorm1d raises there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.shape[0] == 1:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                False,
                0.0,
                self.eps,
            )
        return super().forward(input)
