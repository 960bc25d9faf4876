"""The main job: from a configuration to a finished run folder."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from evaluation.results import format_table, save_results
from evaluation.suite import COLUMNS, Banks, evaluate_encoder
from ssl_parts.data import build_bank
from ssl_parts.export import export_encoder
from ssl_parts.export.card import facts_of_run
from ssl_parts.report import write_report
from ssl_parts.report.pictures import report_pictures
from ssl_parts.training.checkpoint import write_atomic
from ssl_parts.training.harm import measure_drift, warnings_of
from ssl_parts.training.monitor import MetricsLog
from ssl_parts.training.rounds import BASE, OURS, Run, check_run, train_rounds
from ssl_parts.training.run_folder import commit, record_run, run_folder

if TYPE_CHECKING:
    from ssl_parts.config import Config


def pretrain(config: "Config") -> dict:
    """Run (or continue) a recipe; returns what results.json holds.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: before training and before any file.
        TrainingError: a run that cannot go on; its checkpoints stay.
    """
    accelerator = start(config)
    began = time.monotonic()
    folder = run_folder(config)
    bank = build_bank(config.data, cache_dir=folder / "cache")
    run = Run(config, folder, bank, accelerator, MetricsLog(folder / "metrics.jsonl", accelerator.is_main_process))
    check_run(run)
    if accelerator.is_main_process:
        record_run(folder, config)
    accelerator.wait_for_everyone()
    run.say(f"{config.run.name}: {len(bank)} images of {config.data.name} at {bank.size} px, {config.encoder.name}")
    accelerator.init_trackers("tensorboard")
    train_rounds(run)
    results = finish(run, time.monotonic() - began) if accelerator.is_main_process else {}
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return results


def start(config: "Config") -> Accelerator:
    """Threads, precision, processes. `accelerate launch` exports OMP_NUM_THREADS=1, which would leave cores idle."""
    from ssl_parts.config import Precision

    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = config.run.threads or max(1, available_cores() // local)
    torch.set_num_threads(threads)
    cpu = not torch.cuda.is_available()
    precision = config.run.precision
    if precision is Precision.auto:
        fast = not cpu or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
        precision = Precision.bf16 if fast else Precision.fp32
    folder = Path(config.run.dir) / config.run.name
    trackers = list(config.run.trackers)
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if precision is Precision.bf16 else "no",
        log_with=trackers or None,
        project_dir=folder if trackers else None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
    )


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish(run: Run, seconds: float) -> dict:
    """Evaluate, export, write results.json, print the table and where everything is."""
    rows = evaluate_arms(run) if run.evaluated else {}
    exported = run.folder / "export"
    drift, warned = look_for_harm(run, rows)
    results = {
        "run": run.config.run.name,
        "seed": run.config.run.seed,
        "commit": commit(),
        "seconds": round(seconds, 1),
        "rows": rows,
        "drift": drift,
        "warnings": warned,
        "export": str(exported),
    }
    save_results(run.folder / "results.json", results)
    export_encoder(
        run.encoder(run.result), exported, to="timm", image_size=run.bank.size, facts=facts_of_run(run.folder)
    )
    if rows:
        print("\n" + format_table(rows, COLUMNS))
    for warning in warned:
        print(f"\nHARM: {warning}. See train.preset, train.anchor and train.interpolate in the README.")
    print(f"\nEncoder: timm.create_model('local-dir:{exported}', pretrained=True)")
    print(f"Parts:   {run.folder}/round_*/parts.png")
    if run.config.run.pictures:
        report_pictures(run)
    print(f"Report:  {write_report(run.folder)}")
    print(f"Results: {run.folder / 'results.json'}")
    return results


def look_for_harm(run: Run, rows: dict) -> tuple[dict, list[str]]:
    """Compare the result with a base that was given (one made from scratch is there to be changed)."""
    drift = measure_drift(run.encoder(run.base), run.encoder(run.result), run.bank)
    given = run.config.encoder.weights is not None
    return drift.as_dict(), warnings_of(drift, rows, BASE, OURS) if given else []


def evaluate_arms(run: Run) -> dict:
    """Each arm's protocols, one file an arm, skipped when it is there."""
    rows, banks = {}, None
    for name, weights in run.arms().items():
        path = run.folder / "evaluation" / f"{weights.parent.name}.json"
        if not path.exists():
            banks = banks or Banks.of(run.config.data, run.bank)
            path.parent.mkdir(exist_ok=True)
            result = evaluate_encoder(run.encoder(weights), banks, run.config.evaluation)
            write_atomic(path, json.dumps(result, indent=1))
        rows[name] = json.loads(path.read_text())
    return rows
