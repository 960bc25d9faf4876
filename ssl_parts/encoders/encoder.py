"""One dense interface over timm's networks.

Shape legend: B images, 3 colours, H x W pixels, D channels, h x w cells of a map, T tokens, N
patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_parts.encoders.families import Layout, as_timm, layout_of
from ssl_parts.encoders.report import LoadReport
from ssl_parts.errors import ConfigError


@dataclass(frozen=True)
class Features:
    """What an encoder says about a batch.

    maps: one (B, D, h, w) map for each stage asked for, named as in `Encoder.stages`.
    pooled: (B, D) one vector an image: the average of the last map (ConvNeXt: normalised), a ViT's
        final [CLS] token, or the mean of its patches where it has none. Equal to
        `timm.create_model(...)(x)` except for VGG, MobileNetV3.
    tokens: (B, T, D) for ViTs, T = [CLS] + registers + N patches after the final norm; None for
    convolutional networks.
    """

    maps: dict[str, Tensor]
    pooled: Tensor
    tokens: Tensor | None = None


class Encoder(nn.Module):
    """A timm network that takes RGB in [0, 1] and returns dense maps by stage.

    The encoder normalises its input itself, so that nobody else ever does: `mean` and `std` are
    buffers that travel with checkpoints and exports. Build one with `build_encoder`.

    Attributes:
        name: timm's name of the network.
        stages: names of the maps, coarse last. ResNets: "stem" (after the max-pool), "layer1"..
            "layer4". Other convolutional networks: "stage1".. by stride, and "head" where a
            convolution follows the last stage (MobileNet, EfficientNet). ViTs: "block0"..; the
            last one after the final norm.
        dims, strides: channels of each map, and input pixels a cell.
        last_stage: the map that is returned when no stage is asked for.
        feature_dim: channels of `Features.pooled`.
        model: the timm network; `model_args` rebuild it (`timm.create_model(name, **model_args)`).
        report: what the weights loader did, None for random weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        model_args: dict,
    ) -> None:
        super().__init__()
        layout: Layout = layout_of(model)
        self.name = name
        self.model = model
        self.model_args: dict[str, Any] = model_args
        self.stages = layout.stages
        self.dims = dict(layout.dims)
        self.strides = dict(layout.strides)
        self.feature_dim = layout.feature_dim
        self.last_stage = layout.stages[-1]
        self.report: LoadReport | None = None
        self._extract = layout.extract
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32))

    def forward(self, images_BCHW: Tensor, stages: Sequence[str] | None = None) -> Features:
        """Encode a batch.

        Args:
            images_BCHW: float RGB in [0, 1], (B, 3, H, W); not normalised.
            stages: which maps to return; None means the last stage only.

        Raises:
            ConfigError: a stage this encoder does not have, an input that is not float (B, 3, H,
                W), or a size that a ViT's patches do not divide.
        """
        self._check_input(images_BCHW)
        wanted = (self.last_stage,) if stages is None else self.check_stages(stages)
        maps, pooled_BD, tokens_BTD = self._extract(self.model, self.normalise(images_BCHW), wanted)
        return Features({stage: maps[stage] for stage in wanted}, pooled_BD, tokens_BTD)

    def normalise(self, images_BCHW: Tensor) -> Tensor:
        """(x - mean) / std, channel by channel; same shape."""
        return (images_BCHW - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)

    def check_stages(self, stages: Sequence[str]) -> tuple[str, ...]:
        """The stages as a tuple; ConfigError names the first that this encoder does not have."""
        for stage in stages:
            if stage not in self.dims:
                raise ConfigError(
                    f"stage {stage!r} is not one of {self.name}'s: {', '.join(self.stages)}"
                )
        return tuple(stages)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace the input statistics, three numbers each."""
        self.mean.copy_(torch.as_tensor(list(mean), dtype=torch.float32))
        self.std.copy_(torch.as_tensor(list(std), dtype=torch.float32))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory for about a third more time."""
        as_timm(self.model).set_grad_checkpointing(enable)

    def _check_input(self, images_BCHW: Tensor) -> None:
        if (
            images_BCHW.ndim != 4
            or images_BCHW.shape[1] != 3
            or not images_BCHW.is_floating_point()
        ):
            raise ConfigError(
                f"{self.name} takes float RGB in [0, 1] of shape (B, 3, H, W), but was given "
                f"{images_BCHW.dtype} of shape {tuple(images_BCHW.shape)}; divide uint8 images by 255 first"
            )
        if self.stages[0] != "block0" or getattr(self.model.patch_embed, "dynamic_img_pad", False):
            return
        patch = self.strides["block0"]
        height, width = images_BCHW.shape[-2:]
        if height % patch or width % patch:
            nearest = max(patch, round(height / patch) * patch)
            raise ConfigError(
                f"{self.name} cuts images into patches of {patch} px, which do not divide {height} x {width}; "
                f"use a size such as {nearest} px, or encoder.timm_kwargs.dynamic_img_pad=true"
            )
