"""The `encoder` part of a configuration.

Imports no torch: schemas are read before anything heavy is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError, WeightsError

PRETRAINED = "pretrained"


@dataclass
class EncoderConfig:
    """Which network, from which weights. The files in configs/encoder/ are instances of this."""

    name: str = "resnet18"  # a timm model name, with or without timm's weight tag
    # None: random; "pretrained": timm's own (downloads); otherwise a file or folder
    weights: str | None = None
    # input mean, RGB in [0, 1]; None: the weights' own, or timm's for this name
    mean: list[float] | None = None
    std: list[float] | None = None  # input standard deviation, likewise
    # 8, 16 or 32: dilate instead of striding (ResNet, ConvNeXt, MobileNet)
    output_stride: int | None = None
    small: bool = False  # ResNets: deep 3x3 stem and total stride 8, for images of 48 to 96 px
    width: float = bounded(1.0, above=0, at_most=8)  # ResNets: channels of every stage times this
    # ResNets ("layer3") and ViTs ("block8"): cut the network behind this stage
    last_stage: str | None = None
    allow_partial: bool = False  # accept weights that do not cover the whole encoder
    # passed to timm's constructor, e.g. pad_type: same
    timm_kwargs: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """ConfigError for the first value that cannot work; nothing is built."""
        check_normalisation(self.mean, self.std)
        if self.output_stride not in (None, 8, 16, 32):
            raise ConfigError(f"encoder.output_stride={self.output_stride} is not one of 8, 16, 32")
        check_bounds("encoder", self)
        if self.weights not in (None, PRETRAINED) and not Path(self.weights).exists():
            raise WeightsError(
                f"encoder.weights={self.weights} does not exist; give a file, a folder or 'pretrained'"
            )


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if (mean is None) != (std is None):
        raise ConfigError(
            f"encoder.mean={mean} and encoder.std={std} go together: give both or neither"
        )
    if mean is not None and (len(mean) != 3 or len(std) != 3 or min(std) <= 0):
        raise ConfigError(
            f"encoder.mean={mean}, encoder.std={std}: three numbers each are needed, std above 0"
        )
