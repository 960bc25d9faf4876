"""A run of pretraining: its configuration, its folder and where everything in it is."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from ssl_parts.data import Bank, ImageBank, build_bank, place_bank
from ssl_parts.encoders import Encoder, make_encoder
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.stop import StopSignal
from ssl_parts.pretraining.arms import ARMS, BASE, result_title
from ssl_parts.pretraining.config import PretrainConfig
from ssl_parts.pretraining.phase_result import DISCOVERY_WEIGHTS
from ssl_parts.pretraining.train_config import ResolvedTrainConfig


@dataclass(frozen=True)
class Run:
    """What every stage of a run needs."""

    config: PretrainConfig
    folder: Path
    bank: ImageBank
    accelerator: Accelerator
    metrics: MetricsLog
    stop: StopSignal

    @property
    def resolved_train(self) -> ResolvedTrainConfig:
        """config.train with a value for everything that the preset decides."""
        return self.config.train.resolved(weights_given=self.config.encoder.weights is not None)

    @property
    def base(self) -> Path:
        return self.folder / "base" / "encoder.safetensors"

    def arm(self, name: str) -> Path:
        return self.folder / ARMS[name].folder / "encoder.safetensors"

    def round_folder(self, number: int) -> Path:
        return self.folder / f"round_{number:03d}"

    @property
    def result(self) -> Path:
        return self.start_of(self.rounds_trained)

    def start_of(self, number: int) -> Path:
        """Weights with which a round begins."""
        return self.base if number == 0 else self.round_folder(number - 1) / "encoder.safetensors"

    def finder_of(self, number: int) -> Path:
        """Weights that find a round's parts: those it begins with, unless train.discover_with
        wants the other ones.
        """
        other = self.resolved_train.discover_with not in (None, self.resolved_train.keep)
        return (
            self.round_folder(number - 1) / DISCOVERY_WEIGHTS
            if number and other
            else self.start_of(number)
        )

    def settled(self, number: int) -> bool:
        """Whether the parts of a round, once found, are so much like the last ones that it is not
        worth training.
        """
        found = self.round_folder(number) / "parts.json"
        if self.resolved_train.stop_nmi is None or number == 0 or not found.exists():
            return False
        return json.loads(found.read_text())["nmi_before"] > self.resolved_train.stop_nmi

    @property
    def rounds_trained(self) -> int:
        """All rounds, or those before the first that is settled."""
        return next(
            (n for n in range(self.resolved_train.rounds) if self.settled(n)),
            self.resolved_train.rounds,
        )

    def arms(self) -> dict[str, Path]:
        """Encoders that the table compares, in its order."""
        beside = {ARMS[name].title: self.arm(name) for name in self.config.run.compared}
        ours = {self.title: self.result} if self.resolved_train.rounds else {}
        return {BASE: self.base, **beside, **ours}

    @property
    def title(self) -> str:
        """The row of the result."""
        return result_title(self.config.objective)

    def encoder(self, weights: Path | None) -> Encoder:
        """The configured encoder with the weights of a stage of this run; None gives its
        configured start.
        """
        if weights is None:
            torch.manual_seed(self.config.run.seed)
            return make_encoder(self.config.encoder).to(self.accelerator.device)
        encoder = make_encoder(replace(self.config.encoder, weights=None))
        encoder.load_state_dict(load_file(weights))
        return encoder.eval().to(self.accelerator.device)

    @cached_property
    def training_bank(self) -> Bank:
        """The images as views are cut from them: on the GPU where they fit, else in a bank."""
        bank, data = self.bank, self.config.data
        if self.config.views.detail > 1:
            size = round(self.config.views.detail * bank.size)
            bank = bank.resized(size, data.cache, self.folder / "cache")
        return place_bank(bank, self.accelerator.device, data.on_device)

    @cached_property
    def test_bank(self) -> ImageBank:
        """The images that are reported on, decoded once for all arms."""
        data = self.config.data
        return build_bank(data, data.test_split, cache_dir=self.folder / "cache")

    def say(self, text: str) -> None:
        self.accelerator.print(text, flush=True)
