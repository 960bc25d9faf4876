"""Part discovery as a command: a folder of images and an encoder in; ids, pictures and statistics
out.
"""

import logging
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from evaluation.discovered_parts import PartScores, judge_parts
from evaluation.protocols.config import DiscoveryProtocol
from evaluation.results import Measure, Results, Row, save_results
from evaluation.tables import format_measure
from ssl_parts.configuration.compose import flatten
from ssl_parts.data import ImageBank, build_bank
from ssl_parts.encoders import Encoder, make_encoder
from ssl_parts.engine.progress import Progress
from ssl_parts.engine.run_folder import commit, environment
from ssl_parts.engine.start import choose_device, set_threads
from ssl_parts.parts import PartStore, discover_parts, part_stats, store_nmi
from ssl_parts.parts.discover import shard
from ssl_parts.parts.sheet import draw_parts
from ssl_parts.recipes.schemas import DiscoverConfig, DiscoverRun

TILE = 160  # pixels of a photograph on the contact sheet


def discover(config: DiscoverConfig) -> Results | None:
    """Run (or continue) a discovery with all processes; returns what results.json holds, None
    beside the main process.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: as `build_bank`, `make_encoder`,
            `PartStore.open` and `discover_parts`.
    """
    state = PartialState(cpu=config.run.device == "cpu" or not torch.cuda.is_available())
    set_threads(config.run.threads)
    fitted, previous = (
        None if path is None else PartStore.open(Path(path)) for path in _given(config.run)
    )
    bank = build_bank(config.data, start=state.process_index * 1009)
    device = choose_device(config.run.device)
    if config.run.device == "auto" and state.device is not None:
        device = state.device  # of this process
    encoder = _encoder(config, state).to(device) if config.parts.needs_encoder else None
    mine = shard(len(bank), state.process_index, state.num_processes, config.parts.unit)
    with Progress("discovery", 0, len(mine), "image", state.is_main_process) as progress:
        store = discover_parts(
            encoder,
            bank,
            config.parts,
            config.run.folder / "parts",
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
        draw_parts(store, bank, config.run.folder / "parts.png", config.run.pictures, TILE)
    if config.run.png:
        store.export_png(config.run.folder / "png", bank.paths)
    return save_results(
        config.run.folder / "results.json",
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
        encoder={"name": config.encoder.name} if config.parts.needs_encoder else {},
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
    torch.manual_seed(config.run.seed)
    return make_encoder(config.encoder)


def print_discovery(config: DiscoverConfig) -> None:
    """`discover`, then what was found and where it is, on the main process."""
    results = discover(config)
    if results is None:
        return
    for name, value in results.extra["statistics"].items():
        print(f"{name:>20}  {value:.4g}")
    for row in results.rows:
        for name, measure in row.values.items():
            print(f"{name:>20}  {format_measure(measure)} %")
    folder = config.run.folder
    print(f"Parts: {folder / 'parts'}")
    if config.run.pictures:
        print(f"Pictures: {folder / 'parts.png'}")
    print(f"Results: {folder / 'results.json'}")
