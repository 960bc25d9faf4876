"""What each command reads: one dataclass a command, in the terms of the rooms below.

Imports no torch: schemas are read before anything heavy is.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.protocols.config import PROTOCOLS, EvaluationConfig
from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.data.config import DataConfig, Fit
from ssl_parts.encoders.config import EncoderConfig
from ssl_parts.engine.run_section import RunSection
from ssl_parts.errors import ConfigError
from ssl_parts.parts.config import PartsConfig
from ssl_parts.pretraining.config import PretrainConfig


@dataclass
class Config(PretrainConfig):
    """The main job: pretraining, then evaluation, export and report."""

    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass
class DeviceRun(RunSection):
    """A run on one device for each process, without training."""

    device: str = "auto"  # auto: the first GPU of this process, or the CPU

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        super().check()
        self._check_device()

    def _check_device(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"run.device={self.device!r} is not auto, cpu, cuda or cuda:N")


@dataclass
class DiscoverRun(DeviceRun):
    """Where the ids go, and what is made beside them."""

    # the folder is DIR/NAME; the same command continues what it finds there
    name: str = "discovery"
    # a part store of other images: its foreground and centroids are used, nothing is learned
    fitted: str | None = None
    # a part store of the same images (an earlier round): NMI, and ids numbered as there
    previous: str | None = None
    # images on the contact sheet, evenly spaced; 0: no sheet
    pictures: int = bounded(24, at_least=0)
    png: bool = False  # also one palette PNG per image
    judge: bool = True  # score against masks, keypoints and boxes where the data set has them


@dataclass
class DiscoverConfig:
    """One encoder, one data set, one way to find parts."""

    run: DiscoverRun = field(default_factory=DiscoverRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        for section in vars(self).values():
            section.check()


@dataclass
class EvaluationRun(DeviceRun):
    """Where results go, and what changes only speed."""

    name: str = "encoder"  # the line of the table
    dir: str = "runs/evaluation"  # results.json is DIR/NAME/DATA_PROTOCOL/results.json
    # folder of kept features; null keeps none
    cache: str | None = "runs/evaluation/features"
    batch: int = bounded(64, at_least=1)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        if not self.name or set(self.name) & set("/\\\0") or self.name in (".", ".."):
            raise ConfigError(f"run.name={self.name!r} must be the name of a folder")
        check_bounds("run", self)
        self._check_device()


@dataclass
class EvaluateConfig:
    """One encoder, one data set, one protocol."""

    run: EvaluationRun = field(default_factory=EvaluationRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    protocol: Any = None  # one of PROTOCOLS: the group configs/protocol/

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        if type(self.protocol) not in PROTOCOLS.values():
            raise ConfigError(f"protocol={self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        for section in (self.run, self.data, self.encoder, self.protocol):
            section.check()

    @property
    def folder(self) -> Path:
        """Where results.json goes."""
        return self.run.folder / f"{self.data.display_name}_{self.protocol.id}"


@dataclass
class ShowConfig:
    """What launch/show.py takes."""

    image: str | None = None  # a file, or a folder of images
    encoder: str | None = None  # a run, an export, or a timm name
    weights: str | None = None  # with a timm name: a file, "pretrained" or null for random weights
    out: str = "shown.png"
    k: int | None = bounded(None, at_least=1)  # parts; null: those of the run or export, or 6
    size: int | None = bounded(
        None, at_least=16
    )  # pixels at which images are encoded; null: the run's, or 224
    fit: Fit = Fit.square  # how an image becomes a square
    limit: int = bounded(12, at_least=1)  # images of a folder, evenly spaced
    side: int = bounded(224, at_least=32)  # pixels of a tile

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        for key in ("image", "encoder"):
            if not getattr(self, key):
                raise ConfigError(f"{key}= is missing; say {key}=..., see --help")
        if not Path(str(self.image)).exists():
            raise ConfigError(f"image={self.image} does not exist; give a file or a folder")
        if Path(self.out).suffix.lower() not in (".png", ".jpg", ".webp"):
            raise ConfigError(f"out={self.out} does not end in .png, .jpg or .webp")
        check_bounds("", self)
