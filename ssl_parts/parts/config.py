"""How parts are discovered. The files in configs/parts/ are instances of `PartsConfig`."""

from dataclasses import dataclass, field

from ssl_parts.errors import ConfigError
from ssl_parts.parts.dense.facets import FACETS
from ssl_parts.parts.refinement.crf import CrfConfig

SUPERPIXELS = ("slic", "felzenszwalb")
METHODS = ("per_image", "dataset", *SUPERPIXELS)
FEATURES = ("encoder", "colour", "colour_xy")
REDUCTIONS = ("exact", "pca", "none")
FOREGROUNDS = (
    "auto",
    "none",
    "votes",
    "spectral",
    "component",
    "attention",
    "saliency",
    "mining",
    "box",
    "mask",
)
BACKENDS = ("torch", "faiss")


@dataclass
class ForegroundConfig:
    """What is object and what is not; background becomes id 0 and takes no part in the clustering."""

    # auto (votes) | none | votes | spectral | component | attention (of a ViT's CLS token) |
    # saliency (clusters that are salient in most images) | mining (frequent patterns of a CNN's
    # channels) | box, mask (from the data set)
    method: str = "auto"
    # maps to look at; []: the last two of a CNN, the last of a ViT
    stages: list[str] = field(default_factory=list)
    size: int = 16  # grid of the decision; it is then resized to parts.size
    sample: int = 256  # votes: images to learn from (all, if there are fewer)
    # votes: sizes of the clusterings that vote
    clusters: list[int] = field(default_factory=lambda: [16, 32, 64])
    # votes: weight of the place in the image against the look of the pixel; 0 ignores the place
    position: float = 0.5
    # attention, saliency: heads to average; []: all
    heads: list[int] = field(default_factory=list)
    saliency: float = (
        # saliency: a cluster is salient in an image above this mean (0..1); 0: above the image's
        # mean
        0.0
    )
    agreement: float = 0.75  # saliency: share of the images that must find a cluster salient
    # saliency: one more cluster must bring the distortion under this share of what it was
    elbow: float = 0.975
    most_clusters: int = 14  # saliency: stop there in any case
    every: int = 100  # saliency: one of so many descriptors is clustered
    # mining: a pair of cells is frequent from this share of the largest support on
    support: float = 0.5
    affinity: float = 0.2  # spectral: cosine similarity from which two pixels are connected
    # reach of the edge-aware smoothing as a share of the side; 0 switches it off
    smoothing: float = 0.1
    # at least this share of an image is foreground, the highest scores first
    least_share: float = 0.05

    def check(self) -> None:
        _one_of("parts.foreground.method", self.method, FOREGROUNDS)
        _at_least(
            "parts.foreground",
            self,
            size=2,
            sample=1,
            position=0,
            smoothing=0,
            most_clusters=2,
            every=1,
        )
        for name in ("saliency", "agreement", "elbow", "support"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"parts.foreground.{name}={getattr(self, name)} is a share, 0 to 1"
                )
        if not self.clusters or min(self.clusters) < 2:
            raise ConfigError(
                f"parts.foreground.clusters={self.clusters} needs one or more numbers of at least 2"
            )
        if not 0 < self.least_share <= 1:
            raise ConfigError(f"parts.foreground.least_share={self.least_share} is not in (0, 1]")
        if not -1 <= self.affinity < 1:
            raise ConfigError(
                f"parts.foreground.affinity={self.affinity} is a cosine similarity, -1 to 1"
            )


@dataclass
class DatasetClusteringConfig:
    """Method dataset: one clustering for all images, so that an id means the same part everywhere."""

    sample_images: int = 500  # images that the centroids are fitted on (all, if there are fewer)
    # foreground points drawn from each of them; nothing is subsampled beyond that
    sample_points: int = 128
    spherical: bool = True  # cosine instead of Euclidean distance
    # take the mean over the data set off first: what all pixels share says nothing about parts
    centre: bool = True
    backend: str = "torch"  # torch | faiss
    restarts: int = 3  # clusterings from other seeds; the one of least inertia is kept
    elbow: float = (
        # > 0: smallest k at which the next cluster lowers the inertia by less than this share; k
        # is the limit
        0.0
    )

    def check(self) -> None:
        _one_of("parts.dataset.backend", self.backend, BACKENDS)
        _at_least("parts.dataset", self, sample_images=1, sample_points=1, restarts=1)
        if not 0 <= self.elbow < 1:
            raise ConfigError(
                f"parts.dataset.elbow={self.elbow} is a share of the inertia, 0 (off) to 1"
            )


@dataclass
class SuperpixelConfig:
    """Methods slic and felzenszwalb, which look at the photograph itself."""

    compactness: float = 10.0  # slic: place against colour; larger: squarer
    scale: float = 500.0  # felzenszwalb: larger: fewer, larger regions
    sigma: float = 0.8  # of the Gaussian that smooths the photograph first, in pixels
    least_share: float = 0.02  # felzenszwalb: of the image; smaller regions are merged

    def check(self) -> None:
        _at_least("parts.superpixels", self, sigma=0, least_share=0)
        for name in ("compactness", "scale"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"parts.superpixels.{name}={getattr(self, name)} must be positive"
                )
        if self.least_share >= 1:
            raise ConfigError(
                f"parts.superpixels.least_share={self.least_share} is a share of the image, under 1"
            )


@dataclass
class PartsConfig:
    """Part discovery. Everything but `batch` changes the ids."""

    # per_image (ids mean nothing in another image) | dataset (they do) | slic, felzenszwalb (no
    # encoder, per image)
    method: str = "per_image"
    group: int = (
        # so many consecutive images share what is learned (clusters, foreground); 0: the whole
        # data set does
        0
    )
    features: str = "encoder"  # encoder | colour | colour_xy (two baselines that need no encoder)
    stages: list[str] = field(
        default_factory=list
    )  # maps of the hypercolumn; []: all but the last of a CNN, last of a ViT
    # of a ViT: key, query or value of its attention instead of the block's output
    facet: str = "token"
    block: int = -1  # with a facet or a stride: which block; -1 is the last
    stride: int = (
        # of a ViT's patches in pixels, under the patch size: overlapping patches, a finer grid; 0:
        # the patch
        0
    )
    normalize: bool = True  # each map's vectors to unit length before they are put together
    # adds (x, y) in 0..1 times this to every point: larger, more compact parts
    position: float = 0.0
    size: int = 64  # ids are size x size
    k: int = 8  # parts, not counting the background
    iterations: int = 100  # of Lloyd's algorithm, at most
    # stop when the centroids' squared shift is under this share of the points' variance
    tolerance: float = 1e-4
    seed: int = 0  # image i uses a seed made from this one and i
    # exact: same distances, fewer channels | pca: to pca_dims, faster | none
    reduction: str = "exact"
    pca_dims: int = 96  # reduction=pca: directions kept, fitted within images on 64 of them
    # reduction=pca: fewer directions where they keep this share of the variance
    pca_share: float = 1.0
    polish: int = 0  # reduction=pca: more of Lloyd's iterations afterwards, in the full space
    min_component: int = 0  # islands of fewer grid cells take the id around them; 0: left alone
    crf: CrfConfig = field(default_factory=CrfConfig)
    foreground: ForegroundConfig = field(default_factory=ForegroundConfig)
    dataset: DatasetClusteringConfig = field(default_factory=DatasetClusteringConfig)
    superpixels: SuperpixelConfig = field(default_factory=SuperpixelConfig)
    # What only changes the speed
    batch: int = 64  # images read and written together

    def check(self) -> None:
        """ConfigError for the first value that cannot work."""
        _one_of("parts.method", self.method, METHODS)
        _one_of("parts.features", self.features, FEATURES)
        _one_of("parts.reduction", self.reduction, REDUCTIONS)
        _one_of("parts.facet", self.facet, FACETS)
        _at_least(
            "parts", self, group=0, stride=0, position=0, size=2, k=1, iterations=1, tolerance=0
        )
        _at_least("parts", self, pca_dims=1, polish=0, min_component=0, batch=1)
        if not 0 < self.pca_share <= 1:
            raise ConfigError(
                f"parts.pca_share={self.pca_share} is a share of the variance, above 0 and up to 1"
            )
        self.foreground.check()
        self.dataset.check()
        self.superpixels.check()
        self.crf.check()
        if self.group and self.method != "dataset":
            raise ConfigError(
                f"parts.group={self.group} needs parts.method=dataset: other methods learn nothing to share"
            )
        if self.ids > 256:
            raise ConfigError(
                f"parts.k={self.k}: ids are stored in one byte, so k is at most {256 - self.has_background}"
            )
        if self.k > self.size**2:
            raise ConfigError(
                f"parts.k={self.k} but parts.size={self.size} gives {self.size**2} points; raise parts.size"
            )

    @property
    def needs_encoder(self) -> bool:
        """Whether ids or foreground are found with an encoder's maps."""
        clustered = self.features == "encoder" and self.method not in SUPERPIXELS
        return clustered or self.foreground.method not in ("none", "box", "mask")

    @property
    def has_background(self) -> bool:
        return self.foreground.method != "none"

    @property
    def ids(self) -> int:
        """Number of ids in the store, background included."""
        return self.k + self.has_background


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}={value!r} is not one of {', '.join(choices)}")


def _at_least(prefix: str, config: object, **limits: float) -> None:
    for name, limit in limits.items():
        if getattr(config, name) < limit:
            raise ConfigError(f"{prefix}.{name}={getattr(config, name)} must be at least {limit}")
