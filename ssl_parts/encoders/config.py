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
class BareFile:
    """The input that a file of weights is taken to expect which does not say it itself."""

    mean: list[float] | None = None  # RGB in [0, 1]; None: timm's for the name
    std: list[float] | None = None
    pad_type: str | None = None  # "same": TensorFlow's padding; None: timm's for the name


@dataclass
class EncoderConfig:
    """Which network, from which weights. The files in configs/encoder/ are instances of this."""

    # a timm model name, with or without timm's weight tag; None: the weights' own
    name: str | None = None
    # None: random; "pretrained": timm's own (downloads); otherwise a file or folder
    weights: str | None = None
    # input mean, RGB in [0, 1]; None: the weights' own, or timm's for this name
    mean: list[float] | None = None
    std: list[float] | None = None  # input standard deviation, likewise
    bare_file: BareFile = field(default_factory=BareFile)
    # 8, 16 or 32: dilate instead of striding (ResNet, ConvNeXt, MobileNet)
    output_stride: int | None = None
    small: bool = False  # ResNets: deep 3x3 stem and total stride 8, for images of 48 to 96 px
    width: float = bounded(1.0, above=0, at_most=8)  # ResNets: channels of every stage times this
    # ResNets ("layer3") and ViTs ("block8"): cut the network behind this stage
    last_stage: str | None = None
    allow_partial: bool = False  # accept weights that do not cover the whole encoder
    # of timm's constructor, e.g. pad_type: same
    timm_kwargs: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError or WeightsError for the first value that cannot work; nothing is built."""
        check_bounds("encoder", self)
        check_normalisation(self.mean, self.std, "encoder.")
        check_normalisation(self.bare_file.mean, self.bare_file.std, "encoder.bare_file.")
        if self.output_stride not in (None, 8, 16, 32):
            raise ConfigError(f"encoder.output_stride={self.output_stride} is not one of 8, 16, 32")
        if self.weights not in (None, PRETRAINED):
            _check_place(str(self.weights))

    def arguments(self) -> dict[str, Any]:
        """`output_stride` and `timm_kwargs` as plain Python, those that are None left out."""
        given = {"output_stride": self.output_stride} | self.timm_kwargs
        return {str(key): _plain(value) for key, value in given.items() if value is not None}


def _check_place(weights: str) -> None:
    """Raise WeightsError unless there is a file or a folder."""
    try:
        Path(weights).expanduser().stat()
    except (OSError, ValueError, RuntimeError) as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "does not exist" if absent else f"cannot be opened ({error})"
        raise WeightsError(
            f"encoder.weights={weights} {reason}; give a file, a folder or 'pretrained'"
        ) from error


def check_normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, prefix: str = "encoder."
) -> None:
    """Raise ConfigError unless mean and std are both None or three numbers each, std above 0.

    Args:
        prefix: what stands before `mean` and `std` in the sentence.
    """
    if (mean is None) != (std is None):
        raise ConfigError(
            f"{prefix}mean={mean} and {prefix}std={std} go together: give both or neither"
        )
    if mean is not None and std is not None and (len(mean) != 3 or len(std) != 3 or min(std) <= 0):
        raise ConfigError(
            f"{prefix}mean={mean}, {prefix}std={std}: three numbers each are needed, std above 0"
        )


def _plain(value: Any) -> Any:
    """Lists and dicts of OmegaConf as Python's own, so that they can be written as JSON."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
