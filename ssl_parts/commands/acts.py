"""What each command does once its configuration is checked: call the job, print what it made."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from evaluation.finetuning.config import FinetuneConfig
from evaluation.finetuning.table import finetune_table
from evaluation.finetuning.train import finetune as train_head
from ssl_parts.comparison.compare import compare as compare_seeds
from ssl_parts.comparison.runs import list_runs, runs_as_text
from ssl_parts.doctor.data import examine
from ssl_parts.doctor.machine import examine_machine
from ssl_parts.doctor.speed import measure_throughput
from ssl_parts.encoders import complete_config
from ssl_parts.engine.disk import disk_errors
from ssl_parts.export import ExportConfig, run_export
from ssl_parts.files import write_atomic
from ssl_parts.jobs import discover as discovery
from ssl_parts.jobs import evaluate as evaluation_job
from ssl_parts.jobs import pretrain as pretrain_job
from ssl_parts.jobs import show as show_job
from ssl_parts.jobs.preflight import describe_measurements
from ssl_parts.recipes.schemas import (
    Config,
    DiscoverConfig,
    EvaluateConfig,
    ShowConfig,
)
from ssl_parts.report import compared_as_text, runs_below, write_comparison, write_report

Options = argparse.Namespace
WithEncoder = TypeVar("WithEncoder", Config, DiscoverConfig, EvaluateConfig, FinetuneConfig)


def settle_encoder(config: WithEncoder, words: Sequence[str]) -> WithEncoder:
    """The configuration with the network that its weights know.

    A recipe's own network gives way to it; one that the command line names must be the same.

    Raises:
        ConfigError, WeightsError: as `complete_config`.
    """
    asked = set()
    for key in (word.partition("=")[0].lstrip("+") for word in words):
        if key == "encoder":
            asked |= {"name", "small", "width"}
        elif key.startswith("encoder."):
            asked.add(key.removeprefix("encoder."))
    return replace(config, encoder=complete_config(config.encoder, asked))


def pretrain(config: Config, options: Options) -> None:
    """Run or continue the recipe."""
    pretrain_job.pretrain(settle_encoder(config, options.words))


def compare(config: Config, options: Options) -> None:
    """Run or continue the recipe for several seeds and tabulate them."""
    with disk_errors(config.run.folder):
        compare_seeds(
            settle_encoder(config, options.words), options.seeds, options.arms, options.jobs
        )


def discover(config: DiscoverConfig, options: Options) -> None:
    """Discover the parts of every image."""
    with disk_errors(config.run.folder):
        discovery.print_discovery(settle_encoder(config, options.words))


def evaluate(config: EvaluateConfig, options: Options) -> None:
    """Run one protocol on one encoder and one data set."""
    with disk_errors(config.folder):
        evaluation_job.evaluate(settle_encoder(config, options.words))


def finetune(config: FinetuneConfig, options: Options) -> None:
    """Train one head."""
    with disk_errors(config.run.folder):
        train_head(settle_encoder(config, options.words))


def heads(config: FinetuneConfig, options: Options) -> None:
    """Train several heads over several seeds and tabulate them."""
    with disk_errors(config.run.folder):
        finetune_table(options.config_name, options.words, options.arms, options.seeds)


def export(config: ExportConfig, options: Options) -> None:
    """Write an encoder in other projects' formats."""
    with disk_errors(Path(config.out or config.source)):
        print(f"Results: {run_export(config)}")


def show(config: ShowConfig, options: Options) -> None:
    """Draw parts, principal components and attention."""
    with disk_errors(Path(config.out)):
        print(f"Shown: {show_job.show(config)}")


def runs(options: Options) -> None:
    """List the runs below a folder."""
    print(runs_as_text(list_runs(options.folder)))


def report(options: Options) -> None:
    """Write report.html of each run, and of several a comparison."""
    folders = [run for folder in options.runs for run in runs_below(folder)]
    with disk_errors(options.out):
        for folder in folders:
            print(f"Report: {write_report(folder)}")
        if len(folders) > 1:
            print(f"\n{compared_as_text(folders)}\n")
            print(f"Comparison: {write_comparison(folders, options.out)}")


def doctor(config: Config, options: Options) -> None:
    """Examine the machine, the data and the speed of a step; exit code 1 where one is not sound."""
    machine = examine_machine()
    print(machine)
    found = {"machine": asdict(machine), "sound": machine.sound}
    if not options.machine:
        found |= examine_data(config, options, machine.sound)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out / "results.json", json.dumps(found, indent=1))
        print(f"Results: {options.out / 'results.json'}")
    sys.exit(0 if found["sound"] else 1)


def examine_data(config: Config, options: Options, machine_sound: bool) -> dict:
    """What the doctor finds in the data set, and with --speed how fast a step is."""
    report = examine(config.data, options.decode, options.sheet, options.workers)
    print(report)
    print(describe_measurements(config))
    found = asdict(report) | {"sound": report.sound and machine_sound}
    if options.sheet:
        print(f"Sheet: {options.sheet}")
    if options.speed:
        speed = measure_throughput(settle_encoder(config, options.words))
        print(f"Training {config.encoder.name} on it, {config.train.batch} pairs a step\n{speed}")
        found["speed"] = asdict(speed) | {"bottleneck": speed.bottleneck}
    return found
