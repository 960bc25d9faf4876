"""Settings of the supervised heads. Imports no torch."""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError


@dataclass
class HeadConfig:
    """What the settings of every head have."""

    name: str = ""  # key of HEAD_CONFIGS

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        check_bounds("head", self)


@dataclass
class LinearConfig(HeadConfig):
    """Plain fine-tuning: one linear layer on pooled features."""

    name: str = "linear"
    # of the classifier's initial weights; 0 starts every image at equal odds
    init_std: float = bounded(0.01, at_least=0)


@dataclass
class TDSAConfig(HeadConfig):
    """TDSA-Loss (arXiv 2102.00367)."""

    name: str = "tdsa"
    # stages of the encoder; null: the last two (a ViT: two thirds of its depth, and the last)
    mid: str | None = None
    high: str | None = None
    # channels per class at the middle stage; a multiple of high_channels
    mid_channels: int = bounded(9, at_least=1)
    high_channels: int = bounded(3, at_least=1)  # channels per class at the high stage
    # VGG only, the paper's form: the stages' own last convolutions get these channels
    widen: bool = False
    hidden: int = bounded(512, at_least=1)  # channels of the classifier
    # side of the pooled high map that the classifier reads; the paper's VGG at 224 px: 7
    grid: int = bounded(1, at_least=1)
    gating: bool = True  # the high stage's attention gates the middle stage's loss
    # weights of the two terms, at both stages; 0 leaves a term out
    discriminality: float = bounded(1.5, at_least=0)
    diversity: float = bounded(15.0, at_least=0)

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        super().check()
        if self.mid_channels % self.high_channels:
            raise ConfigError(
                f"head.mid_channels={self.mid_channels} is not a multiple of "
                f"head.high_channels={self.high_channels}: each high channel gates an equal number "
                "of middle ones"
            )


@dataclass
class Coarse2FineConfig(HeadConfig):
    """Coarse2Fine (arXiv 1909.02680)."""

    name: str = "coarse2fine"
    maps: int = bounded(32, at_least=1)  # attention maps M; at most the last map's channels
    orthogonal: bool = True  # rows of the attention's weight start orthonormal
    # share of the training in stage 1 (cross-entropy of the whole image only); 0 starts with
    # stage 2
    coarse: float = bounded(0.5, at_least=0, below=1)
    # channels of the inverse mapping at its coarsest level; each level finer has half, at least 8
    width: int = bounded(64, at_least=1)
    sparsity: float = bounded(0.05, at_least=0)  # weight of mean(r)
    smoothness: float = bounded(0.05, at_least=0)  # weight of the total variation of r
    scale: float = bounded(100.0, above=0)  # of unit-length attended features, for the classifier


@dataclass
class SCRIMConfig(HeadConfig):
    """SCRIM (Multimedia Tools and Applications, 2024)."""

    name: str = "scrim"
    modules: int = bounded(2, at_least=1)  # coarse part localizations G
    regions: int = bounded(2, at_least=1)  # fine regions M of each module
    # sides of regions, as shares of the image's
    sides: list[float] = bounded([0.3, 0.45, 0.6], above=0, at_most=1)
    # side at which a region is encoded, as a share of the image's: cost goes with its square
    region_size: float = bounded(0.5, above=0, at_most=1)
    overlap: float = bounded(0.25, at_least=0, at_most=1)  # largest IoU of two regions of an image
    hidden: int = bounded(128, at_least=1)  # channels of the attention and of the navigator
    # how much a module's attention inside a region raises its score
    attention_gain: float = bounded(1.0, at_least=0)
    margin: float = bounded(1.0, at_least=0)  # of the ranking hinge
    # weight of the ranking; 0 leaves the navigator as it was drawn
    ranking: float = bounded(1.0, at_least=0)
    contrast: float = bounded(0.5, at_least=0)  # weight of the class x module contrast
    temperature: float = bounded(0.1, above=0)  # of the contrast's cosines

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        super().check()
        if not self.sides:
            raise ConfigError("head.sides=[]: give at least one share of the image's side")


class Streams(Enum):
    shared = "shared"  # one encoder for all streams
    separate = "separate"  # one each for images, objects and parts


class Fusion(Enum):
    concat = "concat"  # a linear layer on all streams' features
    vote = "vote"  # a learned weighted mean of each stream's softmax


@dataclass
class UPMConfig(HeadConfig):
    """UPM (arXiv 1902.09941)."""

    name: str = "upm"
    parts: int = bounded(2, at_least=1)  # part streams P
    # of a frequent pair, as a share of the largest support of one position
    support: float = bounded(0.3, above=0, at_most=1)
    # the map that is mined; null: the last one, before a widening "head" if it has one
    stage: str | None = None
    # weight of position beside features when an object is cut into parts
    gamma: float = bounded(0.5, at_least=0)
    # side of a part's box, as a share of the object's longer side
    part_side: float = bounded(0.5, above=0, at_most=1)
    # side at which the object is encoded, as a share of the image's
    object_size: float = bounded(0.6, above=0, at_most=1)
    part_size: float = bounded(0.5, above=0, at_most=1)  # likewise each part
    streams: Streams = Streams.shared
    fusion: Fusion = Fusion.concat
    # weight of the mean cross-entropy of the streams on their own
    stream_weight: float = bounded(0.5, at_least=0)


HEAD_CONFIGS: dict[str, type[HeadConfig]] = {
    "linear": LinearConfig,
    "tdsa": TDSAConfig,
    "coarse2fine": Coarse2FineConfig,
    "scrim": SCRIMConfig,
    "upm": UPMConfig,
}


def head_config(name: str, **options: Any) -> HeadConfig:
    """Make the settings of a head.

    Raises:
        ConfigError: an unknown name, or the first option that this head does not have.
    """
    if name not in HEAD_CONFIGS:
        raise ConfigError(
            f"head.name={name!r} is unknown{did_you_mean(name, HEAD_CONFIGS)}; there are: "
            f"{', '.join(HEAD_CONFIGS)}"
        )
    kind = HEAD_CONFIGS[name]
    known = [each.name for each in fields(kind)]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"head {name} has no option {option!r}{did_you_mean(option, known)}; it has: "
                f"{', '.join(known)}"
            )
    return kind(**options)
