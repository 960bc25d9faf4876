"""The main job: from a configuration to a finished run folder."""

import errno
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from evaluation.protocols import Bench, evaluate_encoder
from evaluation.results import Results, Row, read_results, save_results
from evaluation.tables import format_table, headings, values_by_arm
from ssl_parts.data import build_bank
from ssl_parts.engine.allocator import keep_freed_memory
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.run_folder import commit, record_run, run_folder
from ssl_parts.engine.stop import Stopped, StopSignal
from ssl_parts.errors import ConfigError, TrainingError
from ssl_parts.export import export_encoder
from ssl_parts.pretraining.arms import BASE
from ssl_parts.pretraining.harm import measure_drift, warnings_of
from ssl_parts.pretraining.stages import Run, check_run, train_rounds
from ssl_parts.report import write_report
from ssl_parts.report.pictures import report_pictures

if TYPE_CHECKING:
    from ssl_parts.configuration.compose import Config

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
SHARDING = {  # what `accelerate launch` sets for its processes
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def pretrain(config: "Config") -> Results | None:
    """Run (or continue) a recipe; returns what results.json holds, None beside the main process.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: before training and before any
            file.
        TrainingError: a run that cannot go on, also because the disk is full; what it has on disk
            stays.
        Stopped: SIGTERM or SIGUSR1; the process ends with the exit code stop.REQUEUE.
    """
    accelerator = start(config)
    with StopSignal(accelerator) as stop:
        try:
            results = run_all(config, accelerator, stop)
        except Stopped:
            accelerator.print(
                "Stopped by a signal, nothing is lost: the same command goes on.", flush=True
            )
            accelerator.end_training()
            raise
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            folder = Path(config.run.dir) / config.run.name
            raise TrainingError(
                f"{error.filename or folder} cannot be written: {error.strerror}. What was finished is untouched; "
                "free some disk or mend the permissions and start the same command again"
            ) from error
    accelerator.end_training()
    return results


def run_all(config: "Config", accelerator: Accelerator, stop: StopSignal) -> Results | None:
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
        f"{config.run.name}: {len(bank)} images of {config.data.display_name} at {bank.size} px, {config.encoder.name}"
    )
    accelerator.init_trackers("tensorboard")
    train_rounds(run)
    main = accelerator.is_main_process
    return stop.interruptible(lambda: finish(run, time.monotonic() - began) if main else None)


def check_whole_networks(environment: Mapping[str, str] = os.environ) -> None:
    """ConfigError where `accelerate launch` shards networks: the teacher, checkpoints and exports
    need whole ones.
    """
    for key, name in SHARDING.items():
        if environment.get(key, "").lower() in ("1", "true"):
            raise ConfigError(
                f"accelerate is configured for {name} ({key}={environment[key]}), which shards networks; here each "
                "process needs a whole one. Launch with distributed_type: MULTI_GPU (launch/accelerate/one_node.yaml), "
                "and with train.grad_checkpointing=true where memory is short"
            )


def start(config: "Config") -> Accelerator:
    """Threads, memory, precision, processes. `accelerate launch` sets OMP_NUM_THREADS=1, which
    leaves cores idle.
    """
    from ssl_parts.configuration.compose import Precision

    check_whole_networks()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = config.run.threads or max(1, available_cores() // local)
    torch.set_num_threads(threads)
    cpu = not torch.cuda.is_available()
    if cpu:
        keep_freed_memory()
    precision = config.run.precision
    if precision is Precision.auto:
        precision = Precision.bf16 if not cpu or has_fast_bf16() else Precision.fp32
    folder = Path(config.run.dir) / config.run.name
    trackers = list(config.run.trackers)
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if precision is Precision.bf16 else "no",
        log_with=trackers or None,
        project_dir=folder if trackers else None,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(minutes=config.run.timeout_minutes))
        ],
    )


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AMX or AVX-512 BF16)."""
    looks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, look, lambda: False)() for look in looks)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish(run: Run, seconds: float) -> Results:
    """Evaluate, export, write results.json, print the table and where everything is."""
    rows = evaluate_arms(run) if run.evaluated else []
    exported = run.folder / "export"
    drift, warned = look_for_harm(run, rows)
    results = save_results(
        run.folder / "results.json",
        "pretrain",
        rows,
        run=run.config.run.name,
        seed=run.config.run.seed,
        commit=commit(),
        seconds=round(seconds, 1),
        drift=drift,
        warnings=warned,
        export=str(exported),
    )
    export_encoder(
        run.folder if run.train.rounds else run.base, exported, to="timm", image_size=run.bank.size
    )
    if rows:
        print("\n" + format_table(rows, headings(rows)))
    for warning in warned:
        print(
            f"\nHARM: {warning}. See docs/encoder_and_k.md: train.preset, train.anchor, "
            "train.interpolate."
        )
    print(f"\nEncoder: timm.create_model('local-dir:{exported}', pretrained=True)")
    if run.train.rounds:
        print(f"Parts:   {run.folder}/round_*/parts.png")
    if run.config.run.pictures and run.train.rounds:
        report_pictures(run)
    print(f"Report:  {write_report(run.folder)}")
    print(f"Results: {run.folder / 'results.json'}")
    return results


def look_for_harm(run: Run, rows: list[Row]) -> tuple[dict, list[str]]:
    """Compare the result with a base that was given (one made from scratch is there to be
    changed).
    """
    drift = measure_drift(run.encoder(run.base), run.encoder(run.result), run.bank)
    if run.config.encoder.weights is None:
        return drift.as_dict(), []
    columns, values = headings(rows), values_by_arm(rows)
    means = {
        arm: {heading: each[key].mean for key, heading in columns.items() if key in each}
        for arm, each in values.items()
    }
    return drift.as_dict(), warnings_of(drift, means.get(BASE, {}), means.get(run.title, {}))


def evaluate_arms(run: Run) -> list[Row]:
    """Measure each arm's protocols, one file per arm, skipped when it is there."""
    rows, test = [], None
    for name, weights in run.arms().items():
        path = run.folder / "evaluation" / f"{weights.parent.name}.json"
        if not path.exists():
            test = test or build_bank(
                run.config.data, run.config.data.test_split, cache_dir=run.folder / "cache"
            )
            bench = Bench(
                run.encoder(weights),
                run.bank,
                test,
                run.accelerator.device,
                run.config.evaluation.batch,
                data=run.config.data.display_name,
            )
            measured = evaluate_encoder(bench, run.config.evaluation, name, commit())
            save_results(path, "pretrain", measured, arm=name)
        rows += read_results(path).rows
    return rows
