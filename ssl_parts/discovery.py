"""Part discovery as a command: a folder of images and an encoder in; ids, pictures and statistics out."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from hydra.core.config_store import ConfigStore
from PIL import Image

from evaluation.part_discovery import judge_parts
from ssl_parts.data import DataConfig, ImageBank, build_bank
from ssl_parts.encoders import Encoder, EncoderConfig
from ssl_parts.errors import ConfigError
from ssl_parts.parts import PartsConfig, PartStore, discover_parts, match_store, part_stats, store_nmi
from ssl_parts.parts.discover import shard
from ssl_parts.parts.palette import contact_sheet, overlay
from ssl_parts.training.checkpoint import write_atomic
from ssl_parts.training.progress import Progress

SHEET_COLUMNS, SHEET_SIDE = 6, 160


@dataclass
class DiscoverRun:
    """Where the ids go, and what is made beside them."""

    name: str = "discovery"  # the folder is DIR/NAME; the same command continues what it finds there
    dir: str = "runs"
    fitted: str | None = None  # a part store of other images: its foreground and centroids are used, nothing is learned
    previous: str | None = None  # a part store of the same images (an earlier round): NMI, and ids numbered as there
    pictures: int = 24  # images on the contact sheet, evenly spaced; 0: no sheet
    png: bool = False  # also one palette PNG an image
    judge: bool = True  # score against masks, keypoints and boxes where the data set has them
    device: str = "auto"  # auto: the first GPU of this process, or the CPU
    threads: int | None = None  # of each process; null: cores / processes on this machine

    def check(self) -> None:
        """ConfigError for the first value that cannot work."""
        if not self.name or self.name.startswith("/") or ".." in self.name:
            raise ConfigError(f"run.name={self.name!r} must be the name of a folder under run.dir")
        if self.pictures < 0 or (self.threads is not None and self.threads < 1):
            raise ConfigError(
                f"run.pictures={self.pictures} must be at least 0 and run.threads={self.threads} at least 1"
            )


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


def register() -> None:
    """Make the schema known to hydra."""
    ConfigStore.instance().store(name="discover_schema", node=DiscoverConfig)


def discover(config: DiscoverConfig) -> dict:
    """Run (or continue) a discovery with all processes; returns what results.json holds.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: see the rooms.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    torch.set_num_threads(
        config.run.threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    )
    bank = build_bank(config.data, start=state.process_index * 1009)
    encoder, device = _encoder(config, state)
    fitted = None if config.run.fitted is None else PartStore.open(Path(config.run.fitted))
    previous = None if config.run.previous is None else PartStore.open(Path(config.run.previous))
    rows = shard(len(bank), state.process_index, state.num_processes, max(1, config.parts.group))
    with Progress("discovery", 0, len(rows), "image", state.is_main_process) as progress:
        store = discover_parts(
            encoder,
            bank,
            config.parts,
            config.folder / "parts",
            device=device,
            rank=state.process_index,
            world_size=state.num_processes,
            progress=progress.advance,
            fitted=fitted,
        )
    state.wait_for_everyone()
    results = finish(config, store, bank, previous) if state.is_main_process else {}
    state.wait_for_everyone()
    return results


def finish(config: DiscoverConfig, store: PartStore, bank: ImageBank, previous: PartStore | None) -> dict:
    """Check the store, count, judge, draw, and write results.json."""
    store.verify(bank.paths)
    results = {"images": len(store), "k": store.k, "scope": store.scope, "statistics": part_stats(store).as_dict()}
    if previous is not None:
        results["statistics"]["nmi_previous"] = store_nmi(previous, store)
        if store.scope == previous.scope == "dataset":
            matched = config.folder / "parts_matched"
            store = PartStore.open(matched) if matched.exists() else match_store(store, previous, matched)
    if config.run.judge:
        results["scores"] = judge_parts(store, bank).as_dict()
    if config.run.pictures:
        draw_sheet(store, bank, config.folder / "parts.png", config.run.pictures)
    if config.run.png:
        store.export_png(config.folder / "png", bank.paths)
    write_atomic(config.folder / "results.json", json.dumps(results | {"command": " ".join(sys.argv)}, indent=1))
    return results


def draw_sheet(store: PartStore, bank: ImageBank, path: Path, count: int) -> None:
    """Contact sheet of evenly spaced images, each beside its parts."""
    chosen = torch.linspace(0, len(bank) - 1, min(count, len(bank))).long().tolist()
    tiles = []
    for image, ids in zip(bank.images(chosen), store.batch(chosen)):
        large = torch.nn.functional.interpolate(image[None].float(), size=(SHEET_SIDE, SHEET_SIDE), mode="bilinear")
        large = large[0].round().to(torch.uint8)
        tiles.append(torch.cat([large, overlay(large, ids, store.k, store.background)], dim=2))
    Image.fromarray(contact_sheet(tiles, SHEET_COLUMNS, gap=4).permute(1, 2, 0).numpy()).save(path)


def _encoder(config: DiscoverConfig, state: PartialState) -> tuple[Encoder | None, torch.device]:
    device = state.device if config.run.device == "auto" else torch.device(config.run.device)
    needs_none = config.parts.features != "encoder" and config.parts.foreground.method in ("none", "box", "mask")
    if needs_none:
        return None, device
    torch.manual_seed(0)
    return config.encoder.build().to(device), device
