"""How parts are discovered: one configuration per method, chosen by its group (`parts=dataset`).

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError
from ssl_parts.parts.clustering.config import CentroidsConfig, LloydConfig
from ssl_parts.parts.dense.config import FACETS, DenseConfig
from ssl_parts.parts.foreground.config import (
    ForegroundConfig,
    NoForegroundConfig,
    SaliencyConfig,
    VotesConfig,
    check_method,
)
from ssl_parts.parts.refinement.config import CrfConfig

MOST_IDS = 256  # they are stored in one byte
LARGEST_SEED = 2**31 - 1  # the image's number is the lower half of an int64


@dataclass
class PartsConfig:
    """What all methods have. Everything but `batch` changes the ids."""

    method: str = MISSING  # key of METHOD_CONFIGS; the file of the group says it
    size: int = bounded(64, at_least=2)  # ids are size x size
    k: int = bounded(8, at_least=1)  # parts, not counting the background
    seed: int = bounded(0, at_least=0, at_most=LARGEST_SEED)  # image i uses this one and i
    foreground: ForegroundConfig = MISSING
    # --- changes only the speed
    batch: int = bounded(64, at_least=1)  # images read and written together

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_method("parts", "parts", self, METHOD_CONFIGS)
        check_bounds("parts", self)
        if not isinstance(self.foreground, ForegroundConfig):
            raise ConfigError("no method is chosen for parts.foreground: use parts/foreground=NAME")
        self.foreground.check()
        if self.ids > MOST_IDS:
            raise ConfigError(
                f"parts.k={self.k}: ids are stored in one byte, so k is at most "
                f"{MOST_IDS - self.has_background}"
            )
        if self.k > self.size**2:
            raise ConfigError(
                f"parts.k={self.k} but parts.size={self.size} gives {self.size**2} points; "
                "raise parts.size"
            )

    @property
    def dense(self) -> DenseConfig:
        """Which features are read; the encoder's own maps for methods that cluster none."""
        return self if isinstance(self, DenseConfig) else DenseConfig()

    @property
    def named_stages(self) -> list[str]:
        """Maps of the encoder that the configuration names, for a check before discovery."""
        return [*self.dense.stages, *getattr(self.foreground, "stages", [])]

    @property
    def unit(self) -> int:
        """So many consecutive images stay together on one process."""
        return 1

    @property
    def needs_encoder(self) -> bool:
        """Whether ids or foreground are found with an encoder's maps."""
        clustered = isinstance(self, DenseConfig) and self.features == "encoder"
        return clustered or self.foreground.reads_encoder

    @property
    def has_background(self) -> bool:
        """Whether id 0 is the background."""
        return self.foreground.method != "none"

    @property
    def ids(self) -> int:
        """Number of ids in the store, background included."""
        return self.k + self.has_background


@dataclass
class PerImageConfig(LloydConfig, DenseConfig, PartsConfig):
    """Each image is clustered by itself: an id means nothing in another image."""

    method: str = "per_image"
    foreground: ForegroundConfig = field(default_factory=VotesConfig)
    # directions that are kept of the features, the same for all images: several times faster than
    # all channels of a hypercolumn, not exact; 0: exact
    pca_dims: int = bounded(0, at_least=0)
    # with pca_dims: more of Lloyd's iterations afterwards, in the full space
    polish: int = bounded(0, at_least=0)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check()
        if self.polish and not self.pca_dims:
            raise ConfigError(
                f"parts.polish={self.polish} needs parts.pca_dims: without it clustering is in the "
                "full space anyway"
            )


@dataclass
class DatasetConfig(CentroidsConfig, DenseConfig, PartsConfig):
    """One clustering for all images, so that an id means the same part everywhere."""

    method: str = "dataset"
    foreground: ForegroundConfig = field(default_factory=VotesConfig)
    # images that the centroids are fitted on (all, if there are fewer)
    sample_images: int = bounded(500, at_least=1)
    # foreground points drawn from each of them; nothing is subsampled beyond that
    sample_points: int = bounded(128, at_least=1)
    # take the mean over the data set off first: what all pixels share says nothing about parts
    centre: bool = True


@dataclass
class CosegmentConfig(DatasetConfig):
    """Co-segmentation: groups of images share one clustering, ids are refined by a CRF.

    The defaults are those of PARTICLE's transformer path (arXiv 2309.13822, section 3, after Amir et
    al., arXiv 2112.05814; docs/method.md, section 1.3), made for DINO ViT-S/8.
    """

    method: str = "cosegment"
    foreground: ForegroundConfig = field(default_factory=SaliencyConfig)
    # so many consecutive images share what is learned (clusters, foreground); 0: all do, and ids
    # mean the same in all images
    group: int = bounded(30, at_least=0)
    size: int = bounded(56, at_least=2)
    k: int = bounded(5, at_least=1)
    facet: str = bounded("key", one_of=FACETS)
    stride: int = bounded(4, at_least=0)
    sample_points: int = bounded(3136, at_least=1)  # all of 56 x 56
    spherical: bool = False
    centre: bool = False
    crf: CrfConfig = field(default_factory=CrfConfig)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check()
        check_bounds("parts.crf", self.crf)

    @property
    def unit(self) -> int:
        """A group."""
        return max(1, self.group)


@dataclass
class SuperpixelConfig(PartsConfig):
    """Regions of the photograph by colour and place, per image, without an encoder."""

    k: int = bounded(16, at_least=1)
    foreground: ForegroundConfig = field(default_factory=NoForegroundConfig)
    sigma: float = bounded(0.8, at_least=0)  # of the Gaussian that smooths first, in pixels


@dataclass
class SlicConfig(SuperpixelConfig):
    """SLIC: about k compact pieces of like size."""

    method: str = "slic"
    compactness: float = bounded(10.0, above=0)  # place against colour; larger: squarer


@dataclass
class FelzenszwalbConfig(SuperpixelConfig):
    """Felzenszwalb's regions: their number follows the image, the k largest are kept."""

    method: str = "felzenszwalb"
    scale: float = bounded(500.0, above=0)  # larger: fewer, larger regions
    # of the image; smaller regions are merged
    least_share: float = bounded(0.02, at_least=0, below=1)


METHOD_CONFIGS: dict[str, type[PartsConfig]] = {
    kind.method: kind
    for kind in (PerImageConfig, DatasetConfig, CosegmentConfig, SlicConfig, FelzenszwalbConfig)
}
