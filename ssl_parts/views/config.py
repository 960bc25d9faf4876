"""The keys of `views`: crops, flips, colour and the exchange of backgrounds.

Imports neither torch nor numpy: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field
from enum import Enum

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError


class Interpolation(Enum):
    """Kernel that resizes a crop to the size of a view, antialiased."""

    bicubic = "bicubic"
    bilinear = "bilinear"


@dataclass
class CropConfig:
    """Random resized crop and horizontal flip; the defaults are those of PARTICLE and DetCon."""

    # share of the image's area, lowest and highest
    scale: list[float] = bounded([0.08, 1.0], above=0, at_most=1, length=2)
    ratio: list[float] = bounded([3 / 4, 4 / 3], above=0, length=2)  # width / height
    flip: float = bounded(0.5, at_least=0, at_most=1)  # probability

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("views.crop", self)
        _check_order("views.crop.scale", self.scale)
        _check_order("views.crop.ratio", self.ratio)


@dataclass
class PhotometricConfig:
    """Strengths and probabilities; of two probabilities the first is for view 1."""

    brightness: float = bounded(0.4, at_least=0, at_most=1)
    contrast: float = bounded(0.4, at_least=0, at_most=1)
    saturation: float = bounded(0.4, at_least=0, at_most=1)
    hue: float = bounded(0.1, at_least=0, at_most=0.5)  # in turns of the colour circle
    jitter: float = bounded(0.8, at_least=0, at_most=1)  # probability of the four above
    # probability of greyscale (SimCLR 0.2; PARTICLE none)
    grey: float = bounded(0.0, at_least=0, at_most=1)
    blur: list[float] = bounded([1.0, 0.1], at_least=0, at_most=1, length=2)  # probability
    # standard deviation, lowest and highest: pixels at 224 px, scaled with the view size
    blur_sigma: list[float] = bounded([0.1, 2.0], at_least=0, length=2)
    solarise: list[float] = bounded([0.0, 0.2], at_least=0, at_most=1, length=2)  # probability

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("views.photometric", self)
        _check_order("views.photometric.blur_sigma", self.blur_sigma)


@dataclass
class ViewsConfig:
    """The two views of a pair; sizes and augmentations of the paper's released code."""

    size: int = bounded(224, at_least=16)  # side of a view in pixels
    # views are cut from squares of so many times data.size, and lose less: 1 keeps one square an
    # image, 2 needs four times the memory
    detail: float = bounded(1.0, at_least=1)
    # side of the grid on which a view's part ids are sampled, before the vote on the feature grid
    ids_size: int = bounded(56, at_least=1)
    interpolation: Interpolation = Interpolation.bicubic
    # probability that a view gets another image's background; needs a foreground step
    swap_background: float = bounded(0.0, at_least=0, at_most=1)
    crop: CropConfig = field(default_factory=CropConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("views", self)
        if self.ids_size > self.size:
            raise ConfigError(
                f"views.ids_size={self.ids_size} must be at most views.size={self.size}"
            )
        self.crop.check()
        self.photometric.check()


def _check_order(key: str, pair: list[float]) -> None:
    low, high = pair
    if low > high:
        raise ConfigError(f"{key}={list(pair)} must be the lowest value, then the highest")
