"""What `launch/evaluate.py` is told: which encoder, which data, which protocol."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.config_store import ConfigStore

from evaluation.feature_cache import FeatureCache
from evaluation.protocols import PROTOCOLS, Bench
from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import EncoderConfig
from ssl_parts.errors import ConfigError


@dataclass
class EvaluationRun:
    """Where results go, and what changes only speed."""

    name: str = "encoder"  # the line of the table
    dir: str = "runs/evaluation"  # results.json is DIR/NAME/DATA_PROTOCOL/results.json
    cache: str | None = "runs/evaluation/features"  # folder of kept features; null keeps none
    seed: int = 0  # of a random encoder (encoder.weights=null); a protocol has its own
    device: str = "auto"  # auto: the first GPU, or the CPU
    batch: int = 64
    threads: int | None = None  # null: torch's choice

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        if not self.name or set(self.name) & set("/\\\0") or self.name in (".", ".."):
            raise ConfigError(f"run.name={self.name!r} must be the name of a folder")
        if self.batch < 1 or (self.threads is not None and self.threads < 1):
            raise ConfigError(
                f"run.batch={self.batch} and run.threads={self.threads} must be at least 1"
            )
        if self.device != "auto":
            _check_device(self.device)

    @property
    def torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"run.device={name!r} is no device; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"run.device={name} but torch sees no GPU; use run.device=cpu")


@dataclass
class EvaluateConfig:
    """One encoder, one data set, one protocol."""

    run: EvaluationRun = field(default_factory=EvaluationRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    protocol: Any = None  # one of PROTOCOLS: the group configs/protocol/

    def check(self) -> None:
        """Every part checks itself."""
        if type(self.protocol) not in PROTOCOLS.values():
            raise ConfigError(f"protocol={self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        for part in (self.run, self.data, self.encoder, self.protocol):
            part.check()

    def bench(self) -> Bench:
        """Encoder and images, opened; DataError, WeightsError as they."""
        with torch.random.fork_rng(devices=[]):  # random weights are the same every time
            torch.manual_seed(self.run.seed)
            encoder = self.encoder.build().eval()
        train, test = build_bank(self.data), build_bank(self.data, self.data.test_split)
        cache = FeatureCache(self.run.cache)
        return Bench(
            encoder,
            train,
            test,
            self.run.torch_device,
            self.run.batch,
            cache,
            self.data.display_name,
        )

    @property
    def folder(self) -> Path:
        return Path(self.run.dir) / self.run.name / f"{self.data.display_name}_{self.protocol.id}"


def register() -> None:
    """Make the schemas known to hydra: `evaluate_schema`, and `protocol/ID_schema` for each
    protocol.
    """
    store = ConfigStore.instance()
    store.store(name="evaluate_schema", node=EvaluateConfig)
    for name, kind in PROTOCOLS.items():
        store.store(group="protocol", name=f"{name}_schema", node=kind)
