"""Settings of the measurements that protocols are made of. Imports no torch."""

from dataclasses import dataclass, field

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError

# 45 values of C, evenly spaced in log C: the grid of the DINOv2 and DINOv3 protocol
C_VALUES = tuple(10.0 ** (-6 + 11 * i / 44) for i in range(45))


@dataclass
class LinearDecoderConfig:
    """A linear part decoder on frozen dense features (`evaluation.part_segmentation`)."""

    draws: int = bounded(3, at_least=1)  # choices of the labelled images, averaged
    seed: int = bounded(0, at_least=0)  # draw r depends on (seed, r)
    # stages under the decoder, each resized to the grid, concatenated; [] for all
    layers: list[str] = field(default_factory=list)
    grid: int = bounded(32, at_least=1)  # cells per side
    # minimised: mean cross-entropy + weight_decay / 2 * ||W||^2, features of unit deviation
    weight_decay: float = bounded(0.01, above=0)
    # an id that covers the share f of the labelled pixels weighs f ** -balance
    balance: float = bounded(0.5, at_least=0, at_most=1)


@dataclass
class CellsConfig:
    """Cells of training images that are kept with their labels."""

    layers: list[str] = field(default_factory=list)  # [] for the last stage
    grid: int = bounded(16, at_least=1)  # cells per side
    memory: int = bounded(50_000, at_least=2)  # cells kept: a seeded choice where there are more


@dataclass
class RetrievalConfig(CellsConfig):
    """Label transfer from the nearest cells (`evaluation.dense_retrieval`)."""

    k: int = bounded(30, at_least=1)
    temperature: float = bounded(0.05, above=0)


@dataclass
class SegmenterConfig:
    """Training of an upsampling decoder, and of the encoder with it (`evaluation.segmenter`)."""

    # channels of the decoder's blocks, each doubles the size; null: [256, 128, 64]
    widths: list[int] | None = bounded(None, at_least=1)
    epochs: int = bounded(200, at_least=1)
    lr: float = bounded(1e-5, above=0, below=1)  # Adam's, for everything that is trained; constant
    batch: int = bounded(8, at_least=1)
    flip: float = bounded(0.5, at_least=0, at_most=1)  # probability of mirroring
    freeze_norm: bool = False  # fine-tuning keeps the encoder's batch-norm statistics
    validate_every: int = bounded(5, at_least=1)  # epochs, where there are validation images

    def check(self, section: str = "protocol.segmenter") -> None:
        """Raise ConfigError for the first value out of range."""
        check_bounds(section, self)
        if self.widths == []:
            raise ConfigError(f"{section}.widths=[]: give one or more channel counts, or null")
