"""The main job: from a configuration to a finished run folder."""

import json
import time

from accelerate import Accelerator

from evaluation.results import format_table, save_results
from evaluation.suite import COLUMNS, Banks, evaluate_encoder
from ssl_parts.data import build_bank
from ssl_parts.engine.disk import disk_errors
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.run_folder import commit, record_run, run_folder
from ssl_parts.engine.start import start_accelerator
from ssl_parts.engine.stop import Stopped, StopSignal
from ssl_parts.export import export_encoder
from ssl_parts.files import write_atomic
from ssl_parts.pretraining.arms import BASE
from ssl_parts.pretraining.harm import describe_harm, measure_drift
from ssl_parts.pretraining.preflight import check_run
from ssl_parts.pretraining.run import Run
from ssl_parts.pretraining.stages import train_rounds
from ssl_parts.recipes.schemas import Config
from ssl_parts.report import write_report
from ssl_parts.report.pictures import report_pictures


def pretrain(config: Config) -> dict:
    """Run (or continue) a recipe; returns what results.json holds.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: before training and before any
            file.
        TrainingError: a run that cannot go on, also because the disk is full; what it has on disk
            stays.
        Stopped: SIGTERM or SIGUSR1; the process ends with the exit code stop.REQUEUE.
    """
    accelerator = start_accelerator(config.run)
    with StopSignal(accelerator) as stop, disk_errors(config.run.folder):
        try:
            results = run_all(config, accelerator, stop)
        except Stopped:
            accelerator.print(
                "Stopped by a signal, nothing is lost: the same command goes on.", flush=True
            )
            accelerator.end_training()
            raise
    accelerator.end_training()
    return results


def run_all(config: Config, accelerator: Accelerator, stop: StopSignal) -> dict:
    """The stages in order; each looks at the disk for what is done."""
    began = time.monotonic()
    folder = run_folder(config)
    bank = build_bank(config.data, cache_dir=folder / "cache")
    metrics = MetricsLog(folder / "metrics.jsonl", accelerator.is_main_process)
    run = Run(config, folder, bank, accelerator, metrics, stop)
    check_run(run)
    if accelerator.is_main_process:
        record_run(folder, config)
    accelerator.wait_for_everyone()
    run.say(
        f"{config.run.name}: {len(bank)} images of {config.data.name} at {bank.size} px, {config.encoder.name}"
    )
    accelerator.init_trackers("tensorboard")
    train_rounds(run)
    main = accelerator.is_main_process
    return stop.interruptible(lambda: finish(run, time.monotonic() - began) if main else {})


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
        run.folder if run.resolved_train.rounds else run.base,
        exported,
        to="timm",
        image_size=run.bank.size,
    )
    if rows:
        print("\n" + format_table(rows, COLUMNS))
    for warning in warned:
        print(
            f"\nHARM: {warning}. See docs/encoder_and_k.md: train.preset, train.anchor, train.interpolate."
        )
    print(f"\nEncoder: timm.create_model('local-dir:{exported}', pretrained=True)")
    if run.resolved_train.rounds:
        print(f"Parts:   {run.folder}/round_*/parts.png")
    if run.config.run.pictures and run.resolved_train.rounds:
        report_pictures(run)
    print(f"Report:  {write_report(run.folder)}")
    print(f"Results: {run.folder / 'results.json'}")
    return results


def look_for_harm(run: Run, rows: dict) -> tuple[dict, list[str]]:
    """Compare the result with a base that was given (one made from scratch is there to be
    changed).
    """
    drift = measure_drift(run.encoder(run.base), run.encoder(run.result), run.bank)
    if run.config.encoder.weights is None:
        return drift.as_dict(), []
    before, after = (
        {key: value["mean"] for key, value in rows.get(arm, {}).get("values", {}).items()}
        for arm in (BASE, run.title)
    )
    return drift.as_dict(), describe_harm(drift, before, after)


def evaluate_arms(run: Run) -> dict:
    """Each arm's protocols, one file an arm, skipped when it is there."""
    rows, banks = {}, None
    for name, weights in run.arms().items():
        path = run.folder / "evaluation" / f"{weights.parent.name}.json"
        if not path.exists():
            banks = banks or Banks.of(run.config.data, run.bank, run.folder / "cache")
            path.parent.mkdir(exist_ok=True)
            result = evaluate_encoder(run.encoder(weights), banks, run.config.evaluation)
            write_atomic(path, json.dumps({"arm": name} | result, indent=1))
        rows[name] = json.loads(path.read_text())
    return rows
