"""The main job as a state machine on disk: base, arms to compare with, rounds, evaluation, export.

    base encoder ──▶ [discover parts ──▶ train] × rounds ──▶ evaluate ──▶ export
         └────────▶ arms (arms.py): as many steps of instance contrast, DetCon, ...

Each arrow ends with one file written atomically (encoder.safetensors, the PartStore's done map,
evaluation/ARM.json); what is there is not done again. So the same command after a kill goes on
where it was.
"""

import json
from dataclasses import replace
from pathlib import Path

from ssl_parts.encoders import Encoder, encoder_hash
from ssl_parts.engine.checkpoint import save_tensors
from ssl_parts.engine.progress import Progress
from ssl_parts.files import write_atomic
from ssl_parts.objectives import ObjectiveConfig
from ssl_parts.parts import PartsConfig, PartStore, discover_parts, part_stats, store_nmi
from ssl_parts.parts.sheet import draw_parts
from ssl_parts.pretraining.arms import (
    ARMS,
    Arm,
    Masks,
    contrast_instances,
    felzenszwalb_parts,
)
from ssl_parts.pretraining.phase import Phase, steps_of, train_phase
from ssl_parts.pretraining.run import Run
from ssl_parts.pretraining.train_config import Schedule
from ssl_parts.seeds import derive_seed, encode_name


def train_rounds(run: Run) -> None:
    """Base, all rounds, arms; each is skipped when its result is on disk."""
    make_base(run)
    for number in range(run.resolved_train.rounds):
        run.stop.check()
        store = discover(run, number)
        if run.settled(number):
            run.say(
                f"Parts have settled: those of round {number} are the last ones again (train.stop_nmi)"
            )
            break
        train_round(run, number, store)
    for name in run.config.run.compared:
        run.stop.check()
        train_arm(run, name)


def make_base(run: Run) -> None:
    """Make the encoder of round 0: given weights as they are, or instance contrast from scratch for
    train.base_epochs.
    """
    if run.base.exists():
        return
    run.base.parent.mkdir(parents=True, exist_ok=True)
    encoder, steps = run.encoder(None), base_steps(run)
    if steps:
        train = run.resolved_train
        run.say(f"Base encoder: {train.base_epochs} epochs of instance contrast from scratch")
        # nothing here is worth keeping
        whole = replace(train, freeze_stages=0, lora_rank=0, interpolate=1.0)
        objective = contrast_instances(run.config.objective)
        phase = plan_phase(run, "base", run.base.parent, steps, train.base_lr, objective)
        train_here(run, replace(phase, train=whole), encoder)
    elif run.accelerator.is_main_process:
        save_tensors(run.base, encoder.state_dict())
    run.stop.check()


def base_steps(run: Run) -> int:
    """Optimiser steps that make the base encoder, 0 where weights are given."""
    given = run.config.encoder.weights is not None
    return (
        0 if given else steps_of(run.resolved_train.base_epochs, len(run.bank), run.resolved_train)
    )


def round_steps(run: Run) -> int:
    """Optimiser steps of one round."""
    return steps_of(run.resolved_train.epochs, len(run.bank), run.resolved_train)


def plan_phase(
    run: Run,
    name: str,
    folder: Path,
    steps: int,
    lr: float,
    objective: ObjectiveConfig,
    parts: PartStore | None = None,
    first_step: int = 0,
) -> Phase:
    """Plan a phase of this run under a schedule of its own; see `Phase`."""
    # another stream of numbers for each phase of a run
    seed = derive_seed(run.config.run.seed, encode_name(name))
    train, views = run.resolved_train, run.config.views
    return Phase(
        name, folder, steps, lr, seed, objective, train, views, parts, first_step=first_step
    )


def train_here(run: Run, phase: Phase, encoder: Encoder) -> None:
    """Train a phase with the images, log and processes of this run."""
    train_phase(phase, encoder, run.bank, run.accelerator, run.metrics, run.stop, run.training_bank)


def train_arm(run: Run, name: str) -> None:
    """Train a comparison arm: same base, total steps, schedule and preset as the PARTICLE rounds;
    only the objective differs.
    """
    arm, path = ARMS[name], run.arm(name)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    store = arm_parts(run, arm)
    steps = run.rounds_trained * round_steps(run)
    run.say(f"{arm.title}: {steps} steps")
    label = arm.folder.replace("_", " ", 1)
    objective = arm.objective_of(run.config.objective)
    first_step = base_steps(run) + (1 + list(run.config.run.arms).index(name)) * steps
    lr = run.resolved_train.lr
    phase = plan_phase(run, label, path.parent, steps, lr, objective, store, first_step)
    train_here(run, phase, run.encoder(run.base))


def arm_parts(run: Run, arm: Arm) -> PartStore | None:
    """The part ids that an arm's images come with."""
    if arm.masks is Masks.none:
        return None
    if arm.masks is Masks.discovered:
        return discover(run, 0)
    config = felzenszwalb_parts(run.config.parts)
    return run.stop.interruptible(
        lambda: find_parts(run, arm.folder, None, config, run.folder / arm.folder / "parts")
    )


def discover(run: Run, number: int) -> PartStore:
    """The PartStore of a round, sharded over processes, continued where it was; statistics go to
    the metrics log.
    """
    folder, accelerator = run.round_folder(number), run.accelerator
    folder.mkdir(parents=True, exist_ok=True)
    encoder = run.encoder(run.finder_of(number))

    def find() -> PartStore:
        made_by = {"round": number, "encoder": encoder_hash(encoder)}
        before = store_before(run, number)
        return find_parts(
            run, f"parts {number}", encoder, run.config.parts, folder / "parts", made_by, before
        )

    store = run.stop.interruptible(find)
    run.stop.interruptible(
        lambda: accelerator.is_main_process and describe_parts(run, number, store)
    )
    return store


def find_parts(
    run: Run,
    label: str,
    encoder: Encoder | None,
    config: PartsConfig,
    out: Path,
    provenance: dict | None = None,
    previous: PartStore | None = None,
) -> PartStore:
    """This process's share of a discovery over the training images."""
    accelerator = run.accelerator
    with Progress(label, 0, len(run.bank), "image", accelerator.is_main_process) as progress:
        return discover_parts(
            encoder,
            run.bank,
            config,
            out,
            device=accelerator.device,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            progress=progress.advance,
            provenance=provenance,
            previous=previous,
        )


def describe_parts(run: Run, number: int, store: PartStore) -> None:
    """Statistics of a finished store to the metrics log, its picture, and parts.json, which says
    that both are done.
    """
    folder = run.round_folder(number)
    if (folder / "parts.json").exists():
        return
    before = store_before(run, number)
    statistics = part_stats(store).as_dict() | (
        {} if before is None else {"nmi_before": store_nmi(before, store)}
    )
    run.metrics.rewind(f"parts {number}")
    run.metrics.write(phase=f"parts {number}", **statistics)
    draw_parts(store, run.bank, folder / "parts.png")
    write_atomic(folder / "parts.json", json.dumps(statistics, indent=1))


def store_before(run: Run, number: int) -> PartStore | None:
    """The store of the round before."""
    return PartStore.open(run.round_folder(number - 1) / "parts") if number else None


def train_round(run: Run, number: int, store: PartStore) -> None:
    """Train one round of part-centric learning."""
    folder, steps = run.round_folder(number), round_steps(run)
    if (folder / "encoder.safetensors").exists():
        return
    run.say(f"Round {number}: {run.config.objective.method.value} on {store.k} part ids")
    name, lr, objective = f"round {number}", run.resolved_train.lr, run.config.objective
    first_step = base_steps(run) + number * steps
    phase = plan_phase(run, name, folder, steps, lr, objective, store, first_step)
    if run.resolved_train.schedule is Schedule.one:
        through = run.resolved_train.rounds * steps
        phase = replace(phase, earlier_steps=number * steps, schedule_steps=through)
    train_here(run, phase, run.encoder(run.start_of(number)))
