"""What is object and what is not: one configuration per method, chosen by its group
(`parts/foreground=votes`).

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from omegaconf import MISSING

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError


@dataclass
class ForegroundConfig:
    """What all methods have. Background becomes id 0 and takes no part in the clustering."""

    reads_encoder: ClassVar[bool] = False

    method: str = MISSING  # key of FOREGROUND_CONFIGS; the file of the group says it

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_method("parts.foreground", "parts/foreground", self, FOREGROUND_CONFIGS)
        check_bounds("parts.foreground", self)


@dataclass
class NoForegroundConfig(ForegroundConfig):
    """Everything is clustered, background too."""

    method: str = "none"


@dataclass
class BoxConfig(ForegroundConfig):
    """The object's box, where the data set has boxes."""

    method: str = "box"


@dataclass
class MaskConfig(ForegroundConfig):
    """The object's part mask, where the data set has masks."""

    method: str = "mask"


@dataclass
class ScoredConfig(ForegroundConfig):
    """Cells of a coarse grid are scored by an encoder's features; scores above zero are object."""

    reads_encoder: ClassVar[bool] = True

    # maps to read; []: the last two of a CNN, the last of a ViT
    stages: list[str] = field(default_factory=list)
    size: int = bounded(16, at_least=2)  # grid of the decision, then resized to parts.size
    # reach of the edge-aware smoothing as a share of the side; 0 switches it off
    smoothing: float = bounded(0.1, at_least=0)
    # at least this share of an image is foreground, the highest scores first
    least_share: float = bounded(0.05, above=0, at_most=1)


@dataclass
class VotesConfig(ScoredConfig):
    """Clusters of features vote by where in the images they lie. Default."""

    method: str = "votes"
    sample: int = bounded(256, at_least=1)  # images to learn from (all, if there are fewer)
    clusters: list[int] = bounded([16, 32, 64], at_least=2)  # sizes of the clusterings that vote
    # weight of the place in the image against the look of the pixel; 0 ignores the place
    position: float = bounded(0.5, at_least=0)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check()
        if not self.clusters:
            raise ConfigError("parts.foreground.clusters=[] needs one or more numbers of clusters")


@dataclass
class ComponentConfig(ScoredConfig):
    """First principal component of each image's features: needs no other images."""

    method: str = "component"


@dataclass
class SaliencyConfig(ScoredConfig):
    """Clusters that are salient in most images; the defaults are those of PARTICLE's transformer
    path (arXiv 2309.13822, section 3, after Amir et al., arXiv 2112.05814).
    """

    method: str = "saliency"
    size: int = bounded(56, at_least=2)
    smoothing: float = bounded(0.0, at_least=0)
    sample: int = bounded(256, at_least=1)  # images to learn from (all, if there are fewer)
    # of the CLS token's attention, averaged; []: all
    heads: list[int] = bounded([0, 2, 4, 5], at_least=0)
    # a cluster is salient in an image above this mean (0..1); 0: above the image's mean
    threshold: float = bounded(0.065, at_least=0, at_most=1)
    # share of the images that must find a cluster salient
    agreement: float = bounded(0.75, at_least=0, at_most=1)
    # one more cluster must bring the distortion under this share of what it was
    elbow: float = bounded(0.975, at_least=0, at_most=1)
    most_clusters: int = bounded(14, at_least=2)  # stop there in any case
    every: int = bounded(100, at_least=1)  # one of so many descriptors is clustered


@dataclass
class MiningConfig(ScoredConfig):
    """Frequent patterns of a CNN's channels (UPM, arXiv 1902.09941; reconstructed)."""

    method: str = "mining"
    size: int = bounded(28, at_least=2)
    smoothing: float = bounded(0.0, at_least=0)
    # a pair of cells is frequent from this share of the largest support on
    support: float = bounded(0.5, at_least=0, at_most=1)


FOREGROUND_CONFIGS: dict[str, type[ForegroundConfig]] = {
    kind.method: kind
    for kind in (
        NoForegroundConfig,
        VotesConfig,
        ComponentConfig,
        SaliencyConfig,
        MiningConfig,
        BoxConfig,
        MaskConfig,
    )
}


def check_method(section: str, group: str, config: object, known: dict[str, type]) -> None:
    """Raise ConfigError unless `config` is that of the method that it names.

    Args:
        section: the key of the configuration. group: what chooses it on the command line.
    """
    named = getattr(config, "method", None)
    if known.get(str(named)) is type(config):
        return
    chosen = getattr(type(config), "method", MISSING)
    if known.get(str(chosen)) is not type(config):
        raise ConfigError(
            f"no method is chosen for {section}: use {group}=NAME, or one of "
            f"{', '.join(kind.__name__ for kind in known.values())}"
        )
    raise ConfigError(
        f"{section}.method={named!r} does not choose a method: use {group}=NAME, with "
        f"{', '.join(known)}"
    )
