"""The settings of each protocol of PROTOCOLS.md, and which protocols end a run. Imports no torch.

A protocol is a dataclass; the same classes stand below `protocol` in launch/evaluate.py and below
`evaluation` in launch/pretrain.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from evaluation.config import (
    C_VALUES,
    CellsConfig,
    LinearDecoderConfig,
    RetrievalConfig,
    SegmenterConfig,
)
from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError
from ssl_parts.parts.config import DatasetConfig, PartsConfig


@dataclass
class ProtocolConfig:
    """What all protocols have: an id, a version that rises with changed numbers, and a check."""

    id: ClassVar[str]
    version: ClassVar[int]

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range.

        Args:
            section: the key above the settings.
        """
        check_bounds(section, self)


@dataclass
class LinearProtocol(ProtocolConfig):
    """Logistic regression on all training labels."""

    id: ClassVar[str] = "linear"
    version: ClassVar[int] = 2  # 1: the solver stopped short of the optimum

    c: float = bounded(1.0, above=0)  # inverse strength of the penalty; the paper's value
    pooling: str = "pooled"  # evaluation.features.POOLINGS
    standardize: bool = False  # zero mean, unit deviation; raw features are better with few labels


@dataclass
class LinearSweptProtocol(ProtocolConfig):
    """Logistic regression whose C is chosen on validation images cut from the training images."""

    id: ClassVar[str] = "linear_swept"
    version: ClassVar[int] = 2  # 1: the solver stopped short of the optimum

    values: list[float] = bounded(list(C_VALUES), above=0)  # of C
    validation: float = bounded(0.1, above=0, below=1)  # share of each class that judges them
    seed: int = bounded(0, at_least=0)  # of that cut
    pooling: str = "pooled"
    standardize: bool = False

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, values=self.values)


@dataclass
class FewLabelProtocol(ProtocolConfig):
    """Logistic regression on a few labels per class over repeated draws. Nothing is selected."""

    id: ClassVar[str] = "few_label"
    version: ClassVar[int] = 2  # 1: standardised features, 5 draws, as linear

    # labelled images per class; below 1: share of each class
    shots: list[float] = bounded([1.0, 5.0, 10.0, 0.1], above=0)
    draws: int = bounded(20, at_least=1)  # draw r uses seed + r
    seed: int = bounded(0, at_least=0)
    c: float = bounded(1.0, above=0)
    pooling: str = "pooled"
    standardize: bool = False  # with the mean and deviation of the few

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, shots=self.shots)
        if any(shots >= 1 and shots != int(shots) for shots in self.shots):
            raise ConfigError(
                f"{section}.shots={list(self.shots)}: whole numbers of images, or shares below 1"
            )


@dataclass
class KnnProtocol(ProtocolConfig):
    """Weighted nearest neighbours by cosine. Every k is reported, none is chosen."""

    id: ClassVar[str] = "knn"
    version: ClassVar[int] = 1

    # those above the number of training images are left out
    k: list[int] = bounded([10, 20, 100, 200], at_least=1)
    temperature: float = bounded(0.07, above=0)
    pooling: str = "pooled"

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, k=self.k)


@dataclass
class PartsProtocol(LinearDecoderConfig, ProtocolConfig):
    """Few-shot part segmentation by a linear decoder on frozen dense features."""

    id: ClassVar[str] = "parts"
    version: ClassVar[int] = 1

    # labelled images; 0: all training images
    shots: list[int] = bounded([1, 5, 10, 20, 0], at_least=0)

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, shots=self.shots)


@dataclass
class TrainedDecoderProtocol(ProtocolConfig):
    """What parts_decoder and parts_finetune share."""

    finetune: ClassVar[bool]

    # labelled images; 0: all training images, whose fold f chooses the epoch
    shots: list[int] = bounded([20], at_least=0)
    folds: int = bounded(5, at_least=1)  # repetitions: folds of all images, or draws of the few
    # for a few labelled images: further ones that choose the epoch; 0 takes the last epoch
    validation: int = bounded(10, at_least=0)
    seed: int = bounded(0, at_least=0)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, shots=self.shots)
        if 0 in self.shots and self.folds < 2:
            raise ConfigError(
                f"{section}.shots=0 (all images) needs {section}.folds of 2 or more: one fold "
                "validates"
            )
        self.segmenter.check(f"{section}.segmenter")


@dataclass
class PartsDecoderProtocol(TrainedDecoderProtocol):
    """Few-shot part segmentation by an upsampling decoder on the frozen encoder."""

    id: ClassVar[str] = "parts_decoder"
    version: ClassVar[int] = 1
    finetune: ClassVar[bool] = False

    segmenter: SegmenterConfig = field(default_factory=lambda: SegmenterConfig(epochs=100, lr=1e-3))


@dataclass
class PartsFinetuneProtocol(TrainedDecoderProtocol):
    """Part segmentation with the whole network fine-tuned, as PARTICLE reports it."""

    id: ClassVar[str] = "parts_finetune"
    version: ClassVar[int] = 1
    finetune: ClassVar[bool] = True

    shots: list[int] = bounded([0], at_least=0)
    validation: int = bounded(0, at_least=0)


@dataclass
class MemoryProtocol(ProtocolConfig):
    """What retrieval and overcluster share: labelled training images whose cells are kept."""

    images: int = bounded(200, at_least=1)  # fewer where the set has fewer
    draws: int = bounded(3, at_least=1)  # of those images; draw r uses seed + r
    seed: int = bounded(0, at_least=0)


@dataclass
class RetrievalProtocol(RetrievalConfig, MemoryProtocol):
    """Label transfer from the nearest labelled cells."""

    id: ClassVar[str] = "retrieval"
    version: ClassVar[int] = 1


@dataclass
class OverclusterProtocol(CellsConfig, MemoryProtocol):
    """Many clusters of cells, each named after a part. All numbers are reported, none is chosen."""

    id: ClassVar[str] = "overcluster"
    version: ClassVar[int] = 1

    clusters: list[int] = bounded([50, 200], at_least=2)
    memory: int = bounded(20_000, at_least=2)

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        need_entries(section, clusters=self.clusters)


@dataclass
class DiscoveryProtocol(ProtocolConfig):
    """Discovered parts against keypoints, masks and boxes that discovery has not seen."""

    id: ClassVar[str] = "discovery"
    version: ClassVar[int] = 1

    run: str | None = None  # a run's folder: judge the stores of its rounds on its training images
    draws: int = bounded(3, at_least=1)  # k-means seeds, where parts are discovered here
    parts: PartsConfig = field(default_factory=DatasetConfig)

    def check(self, section: str = "protocol") -> None:
        """Raise ConfigError for the first value out of range."""
        super().check(section)
        self.parts.check()
        if self.run is not None and not rounds_of(self.run):
            raise ConfigError(
                f"{section}.run={self.run} has no round_*/parts; give the folder of a run"
            )


def rounds_of(run: str) -> list[Path]:
    """Part stores of a run, in order."""
    return sorted(path for path in Path(run).glob("round_*/parts") if path.is_dir())


def need_entries(section: str, **lists: list) -> None:
    """Raise ConfigError for an empty list."""
    for key, values in lists.items():
        if not values:
            raise ConfigError(f"{section}.{key}=[]: give at least one value")


PROTOCOLS: dict[str, type[ProtocolConfig]] = {
    kind.id: kind
    for kind in (
        LinearProtocol,
        LinearSweptProtocol,
        FewLabelProtocol,
        KnnProtocol,
        PartsProtocol,
        PartsDecoderProtocol,
        PartsFinetuneProtocol,
        RetrievalProtocol,
        OverclusterProtocol,
        DiscoveryProtocol,
    )
}


@dataclass
class EvaluationConfig:
    """The protocols that end a run, measured as launch/evaluate.py measures them.

    A protocol runs where the data set has what it needs: labels, or part masks. `shots` name fewer
    numbers of labelled images than launch/evaluate.py does by default; every other default is the
    protocol's own.
    """

    protocols: list[str] = bounded(
        ["linear", "few_label", "parts"], one_of=("linear", "few_label", "knn", "parts")
    )
    # base and result once more, with embeddings averaged over image, mirror image, found object and
    # found parts (pooling=crops): what needs no training, and what training adds to it
    crops: bool = False
    batch: int = bounded(64, at_least=1)  # images at a time; changes only speed
    linear: LinearProtocol = field(default_factory=LinearProtocol)
    few_label: FewLabelProtocol = field(default_factory=lambda: FewLabelProtocol(shots=[5.0]))
    knn: KnnProtocol = field(default_factory=KnnProtocol)
    parts: PartsProtocol = field(default_factory=lambda: PartsProtocol(shots=[20]))

    def check(self) -> None:
        """Raise ConfigError for the first value out of range."""
        check_bounds("evaluation", self)
        if len(set(self.protocols)) < len(self.protocols):
            raise ConfigError(f"evaluation.protocols={list(self.protocols)}: each protocol once")
        for name in self.protocols:
            self.protocol(name).check(f"evaluation.{name}")

    def protocol(self, name: str) -> ProtocolConfig:
        """The settings of one of `protocols`."""
        return getattr(self, name)
