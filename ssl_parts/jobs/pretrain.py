"""The main job: from a configuration to a finished run folder."""

import time
from pathlib import Path

from accelerate import Accelerator

from evaluation.protocols import Bench
from evaluation.protocols.plan import Plan, with_crops
from evaluation.protocols.suite import evaluate_plan, is_of, missing
from evaluation.results import Results, Row, read_results, save_results
from evaluation.tables import format_table, headings, values_by_arm
from ssl_parts.configuration.compose import flatten
from ssl_parts.data import build_bank
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.run_folder import commit, record_run, run_folder
from ssl_parts.engine.start import start_accelerator, supervise_run
from ssl_parts.engine.stop import StopSignal
from ssl_parts.engine.trackers import start_trackers
from ssl_parts.errors import EvaluationError, SslPartsError
from ssl_parts.export import export_encoder
from ssl_parts.jobs.preflight import plan_run
from ssl_parts.pretraining.arms import BASE
from ssl_parts.pretraining.harm import describe_harm, measure_drift
from ssl_parts.pretraining.preflight import check_run
from ssl_parts.pretraining.stages import train_rounds
from ssl_parts.recipes.run import MeasuredRun
from ssl_parts.recipes.schemas import Config
from ssl_parts.report import write_report
from ssl_parts.report.pictures import report_pictures

CROPPED = "averaged crops"  # behind an arm's name, in tables


def pretrain(config: Config) -> Results | None:
    """Run (or continue) a recipe; returns what results.json holds, None beside the main process.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: before training and before any
            file.
        TrainingError: a run that cannot go on, also because the disk is full; what it has on disk
            stays.
        Stopped: SIGTERM or SIGUSR1; the process ends with the exit code stop.REQUEUE.
    """
    accelerator = start_accelerator(config.run)
    with supervise_run(accelerator, config.run.folder) as stop:
        return run_all(config, accelerator, stop)


def run_all(config: Config, accelerator: Accelerator, stop: StopSignal) -> Results | None:
    """The stages in order; each looks at the disk for what is done."""
    began = time.monotonic()
    folder = run_folder(config)
    bank = build_bank(config.data, cache_dir=folder / "cache")
    metrics = MetricsLog(folder / "metrics.jsonl", accelerator.is_main_process)
    run = MeasuredRun(config, folder, bank, accelerator, metrics, stop)
    check_run(run)
    plan = plan_run(bank, config.data, config.evaluation, config.run.evaluate)
    if accelerator.is_main_process:
        record_run(folder, config)
    accelerator.wait_for_everyone()
    run.say(
        f"{config.run.name}: {len(bank)} images of {config.data.display_name} at {bank.size} px, {config.encoder.name}"
    )
    for note in plan.notes:
        run.say(f"Note: {note}")
    start_trackers(accelerator, folder, flatten(config))
    train_rounds(run)
    main = accelerator.is_main_process
    return stop.interruptible(lambda: finish(run, plan, time.monotonic() - began) if main else None)


def finish(run: MeasuredRun, plan: Plan, seconds: float) -> Results:
    """Export, then evaluate, write results.json, print the table and where everything is."""
    exported = export_run(run)
    rows = evaluate_arms(run, plan)
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
        notes=plan.notes,
        export=str(exported),
    )
    if rows:
        print("\n" + format_table(rows, headings(rows)))
    for warning in warned:
        print(
            f"\nHARM: {warning}. See docs/encoder_and_k.md: train.preset, train.anchor, "
            "train.interpolate."
        )
    print(f"\nEncoder: timm.create_model('local-dir:{exported}', pretrained=True)")
    if run.resolved_train.rounds:
        print(f"Parts:   {run.folder}/round_*/parts.png")
    if run.config.run.pictures and run.resolved_train.rounds:
        report_pictures(run)
    print(f"Report:  {write_report(run.folder)}")
    print(f"Results: {run.folder / 'results.json'}")
    return results


def export_run(run: MeasuredRun) -> Path:
    """Write what the run made as a timm directory, before anything else can go wrong."""
    source = run.folder if run.resolved_train.rounds else run.base
    return export_encoder(source, run.folder / "export", to="timm", image_size=run.bank.size)


def look_for_harm(run: MeasuredRun, rows: list[Row]) -> tuple[dict, list[str]]:
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
    return drift.as_dict(), describe_harm(drift, means.get(BASE, {}), means.get(run.title, {}))


def evaluate_arms(run: MeasuredRun, plan: Plan) -> list[Row]:
    """Measure each arm by the planned protocols, one file per arm; what is there is kept.

    Raises:
        EvaluationError: a measurement failed; the training is not touched.
    """
    rows: list[Row] = []
    try:
        for name, weights in run.arms().items() if plan.measures else ():
            rows += evaluate_arm(run, plan, name, weights)
        for name, weights in arms_with_crops(run).items() if plan.measures else ():
            rows += evaluate_arm(run, with_crops(plan), f"{name}, {CROPPED}", weights, "_crops")
    except SslPartsError as error:
        raise EvaluationError(
            f"the training is finished and exported to {run.folder / 'export'}, but measuring it "
            f"failed: {error}. The same command measures again; keys of evaluation, "
            "data.on_bad_image and run.evaluate may be changed for it"
        ) from error
    return rows


def arms_with_crops(run: MeasuredRun) -> dict[str, Path]:
    """Encoders that are measured once more with averaged crops: the base and the result."""
    if not run.config.evaluation.crops:
        return {}
    return {name: weights for name, weights in run.arms().items() if name in (BASE, run.title)}


def evaluate_arm(
    run: MeasuredRun, plan: Plan, name: str, weights: Path, suffix: str = ""
) -> list[Row]:
    """Rows of one arm: read where they were measured with the same settings, else measured now."""
    path = run.folder / "evaluation" / f"{weights.parent.name}{suffix}.json"
    known = read_results(path).rows if path.exists() else []
    if not missing(plan, known):
        return [row for planned in plan.planned for row in known if is_of(row, planned)]
    config = run.config
    bench = Bench(
        run.encoder(weights),
        run.bank,
        run.test_bank,
        run.accelerator.device,
        config.evaluation.batch,
        data=config.data.display_name,
    )
    measured = evaluate_plan(bench, plan, name, commit(), known)
    save_results(path, "pretrain", measured, arm=name)
    return measured
