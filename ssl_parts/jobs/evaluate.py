"""Evaluation as a command: one encoder, one data set, one protocol."""

import sys
from pathlib import Path

import torch

from evaluation.feature_cache import FeatureCache
from evaluation.protocols import Bench, run_protocol
from evaluation.protocols.plan import plan_protocol, restrict
from evaluation.results import keep_earlier, save_results
from evaluation.tables import format_table
from ssl_parts.data import build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.run_folder import commit
from ssl_parts.engine.start import choose_device, set_threads
from ssl_parts.recipes.schemas import EvaluateConfig


def evaluate(config: EvaluateConfig) -> Path:
    """Run the protocol, print its table and write results.json; returns its path.

    Raises:
        ConfigError, DataError, WeightsError: as `open_bench`, `plan_protocol` and the protocol.
    """
    set_threads(config.run.threads)
    bench = open_bench(config)
    planned = plan_protocol(config.protocol, bench.train, bench.test)
    for note in planned.notes:
        print(f"Note: {note}")
    bench = restrict(bench, planned)
    rows = run_protocol(planned.protocol, bench, config.run.name, commit())
    path = config.folder / "results.json"
    kept = keep_earlier(path, rows)
    save_results(path, "evaluate", rows, command_line=" ".join(sys.argv))
    print(f"\n{format_table(rows)}\n")
    if kept is not None:
        print(f"Earlier results, measured differently, are kept: {kept}")
    print(f"Results: {path}")
    return path


def open_bench(config: EvaluateConfig) -> Bench:
    """The encoder and the images of a configuration.

    Raises:
        ConfigError, DataError, WeightsError: as `choose_device`, `build_bank` and `make_encoder`.
    """
    device = choose_device(config.run.device)
    with torch.random.fork_rng(devices=[]):  # random weights are the same every time
        torch.manual_seed(config.run.seed)
        encoder = make_encoder(config.encoder).eval()
    train, test = build_bank(config.data), build_bank(config.data, config.data.test_split)
    cache = FeatureCache(config.run.cache)
    name = config.data.display_name
    return Bench(encoder, train, test, device, config.run.batch, cache, name)
