"""Part discovery as a command: a folder of images and an encoder in; ids, pictures and statistics
out.
"""

import logging
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from hydra.core.config_store import ConfigStore

from evaluation.discovered_parts import PartScores, judge_parts
from evaluation.protocols.config import DiscoveryProtocol
from evaluation.results import Measure, Results, Row, save_results
from ssl_parts.configuration.compose import flatten
from ssl_parts.data import DataConfig, ImageBank, build_bank
from ssl_parts.encoders import Encoder, EncoderConfig
from ssl_parts.engine.progress import Progress
from ssl_parts.engine.run_folder import commit, environment
from ssl_parts.errors import ConfigError
from ssl_parts.parts import PartsConfig, PartStore, discover_parts, part_stats, store_nmi
from ssl_parts.parts.discover import shard
from ssl_parts.parts.sheet import draw_parts

TILE = 160  # pixels of a photograph on the contact sheet


@dataclass
class DiscoverRun:
    """Where the ids go, and what is made beside them."""

    # the folder is DIR/NAME; the same command continues what it finds there
    name: str = "discovery"
    dir: str = "runs"
    # a part store of other images: its foreground and centroids are used, nothing is learned
    fitted: str | None = None
    # a part store of the same images (an earlier round): NMI, and ids numbered as there
    previous: str | None = None
    pictures: int = 24  # images on the contact sheet, evenly spaced; 0: no sheet
    png: bool = False  # also one palette PNG an image
    judge: bool = True  # score against masks, keypoints and boxes where the data set has them
    device: str = "auto"  # auto: the first GPU of this process, or the CPU
    threads: int | None = None  # of each process; null: cores / processes on this machine

    def check(self) -> None:
        """ConfigError for the first value that cannot work."""
        if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", self.name) or ".." in self.name:
            raise ConfigError(
                f"run.name={self.name!r}: use letters, digits, '_', '-', '.' and '/' for a folder under run.dir"
            )
        if self.pictures < 0 or (self.threads is not None and self.threads < 1):
            raise ConfigError(
                f"run.pictures={self.pictures} must be at least 0 and run.threads={self.threads} at least 1"
            )
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"run.device={self.device!r} is not auto, cpu, cuda or cuda:N")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"run.device={self.device} but torch sees no GPU; use run.device=cpu")


@dataclass
class DiscoverConfig:
    """One encoder, one data set, one way to find parts."""

    run: DiscoverRun = field(default_factory=DiscoverRun)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)

    def check(self) -> None:
        for room in vars(self).values():
            room.check()

    @property
    def folder(self) -> Path:
        return Path(self.run.dir) / self.run.name

    @property
    def needs_encoder(self) -> bool:
        return self.parts.needs_encoder


def register() -> None:
    """Make the schema known to hydra."""
    ConfigStore.instance().store(name="discover_schema", node=DiscoverConfig)


def discover(config: DiscoverConfig) -> Results | None:
    """Run (or continue) a discovery with all processes; returns what results.json holds, None
    beside the main process.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: see the rooms.
    """
    state = PartialState(cpu=config.run.device == "cpu" or not torch.cuda.is_available())
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(config.run.threads or max(1, (os.cpu_count() or 1) // processes))
    fitted, previous = (
        None if path is None else PartStore.open(Path(path)) for path in _given(config.run)
    )
    bank = build_bank(config.data, start=state.process_index * 1009)
    device = state.device if config.run.device == "auto" else torch.device(config.run.device)
    encoder = _encoder(config, state).to(device) if config.needs_encoder else None
    mine = shard(len(bank), state.process_index, state.num_processes, max(1, config.parts.group))
    with Progress("discovery", 0, len(mine), "image", state.is_main_process) as progress:
        store = discover_parts(
            encoder,
            bank,
            config.parts,
            config.folder / "parts",
            device=device,
            rank=state.process_index,
            world_size=state.num_processes,
            progress=progress.advance,
            provenance=dict(zip(("fitted", "previous"), _given(config.run))),
            fitted=fitted,
            previous=previous,
        )
    state.wait_for_everyone()
    results = finish(config, store, bank, previous) if state.is_main_process else None
    state.wait_for_everyone()
    return results


def finish(
    config: DiscoverConfig, store: PartStore, bank: ImageBank, previous: PartStore | None
) -> Results:
    """Check the store, count, judge, draw, and write results.json."""
    store.verify(bank.paths)
    statistics = part_stats(store).as_dict()
    if previous is not None:
        statistics["nmi_previous"] = store_nmi(previous, store)
    scores = judge_parts(store, bank) if config.run.judge else PartScores()
    if config.run.pictures:
        draw_parts(store, bank, config.folder / "parts.png", config.run.pictures, TILE)
    if config.run.png:
        store.export_png(config.folder / "png", bank.paths)
    return save_results(
        config.folder / "results.json",
        "discover",
        score_rows(config, store, bank, scores),
        statistics=statistics,
        ids=store.k,
        background=store.background,
        scope=store.scope,
        config=flatten(config),
        environment=environment(),
        command_line=" ".join(sys.argv),
    )


def score_rows(
    config: DiscoverConfig, store: PartStore, bank: ImageBank, scores: PartScores
) -> list[Row]:
    """The scores as a row of the protocol `discovery`; none where nothing could be scored."""
    values = {
        key: Measure.of([value], unit=PartScores.unit_of(key))
        for key, value in scores.as_dict().items()
    }
    row = Row(
        name=config.run.name,
        protocol=DiscoveryProtocol.id,
        version=DiscoveryProtocol.version,
        data=config.data.display_name,
        splits={bank.dataset.split: len(bank)},
        resolution=bank.size,
        fit=bank.fit.value,
        layer=f"{store.size}x{store.size} ids",
        pooling="",
        selection="none",
        seeds=[config.parts.seed],
        values=values,
        encoder={"name": config.encoder.name} if config.needs_encoder else {},
        commit=commit(),
    )
    return [row] if values else []


def _given(run: DiscoverRun) -> tuple[str | None, str | None]:
    return run.fitted, run.previous


def _encoder(config: DiscoverConfig, state: PartialState) -> Encoder:
    if config.encoder.weights is None and state.is_main_process:
        logging.warning(
            "encoder.weights=null: these are the parts of random weights; give encoder.weights=FILE"
        )
    torch.manual_seed(0)
    return config.encoder.build()
