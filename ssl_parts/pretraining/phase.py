"""One phase of training: an encoder goes in, a better one comes out. The whole loop is
`train_phase`.

base encoder from scratch, the instance-contrast control and each PARTICLE round are all phases;
they differ in their objective and in whether they have parts. Everything random is a function of
(seed, step).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_parts.data import Bank, BatchStream, ImageBank, batch_indices, rank_slice
from ssl_parts.encoders import Encoder
from ssl_parts.engine.adapt import adapt, merge_adapters
from ssl_parts.engine.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from ssl_parts.engine.monitor import MetricsLog, explain_non_finite
from ssl_parts.engine.optim import build_optimizer, follow_mode, set_lr, set_train_mode, speed_up
from ssl_parts.engine.progress import Pace, Progress
from ssl_parts.engine.schedules import cosine, warmup_cosine
from ssl_parts.engine.stop import Stopped, StopSignal
from ssl_parts.engine.teacher import interpolate, make_teacher, update_teacher
from ssl_parts.errors import ConfigError
from ssl_parts.objectives import Objective, ObjectiveConfig, Outputs, build_method
from ssl_parts.parts.store import PartStore
from ssl_parts.pretraining.mixing import choose_share
from ssl_parts.pretraining.train_config import Network, TrainConfig
from ssl_parts.pretraining.watch import Watch
from ssl_parts.views import Views, ViewsConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


OTHER = "discovery.safetensors"  # what finds the next round's parts, where it is not the result


@dataclass(frozen=True)
class Phase:
    """What one phase does; `folder` holds its checkpoints and, once it is finished,
    encoder.safetensors.
    """

    name: str
    folder: Path
    steps: int
    lr: float
    seed: int
    objective: ObjectiveConfig
    train: TrainConfig
    views: ViewsConfig
    parts: PartStore | None = None
    earlier_steps: int = 0  # of phases under the same schedule
    schedule_steps: int | None = None  # of the whole schedule; None: this phase has one of its own

    @property
    def result(self) -> Path:
        return self.folder / "encoder.safetensors"

    def lr_at(self, step: int) -> float:
        steps = self.schedule_steps or self.steps
        return warmup_cosine(
            self.earlier_steps + step, steps, self.lr, self.train.lr_end, self.train.warmup_share
        )

    def momentum_at(self, step: int) -> float:
        start, end = (
            self.train.ema,
            self.train.ema if self.train.ema_end is None else self.train.ema_end,
        )
        return cosine(self.earlier_steps + step, self.schedule_steps or self.steps, start, end)


@dataclass(frozen=True)
class PhaseImages:
    """The training images of a phase and their part ids, as `Method.prepare` is given them."""

    bank: Bank
    parts: PartStore | None

    @property
    def k(self) -> int:
        return 0 if self.parts is None else self.parts.k

    @property
    def background(self) -> int | None:
        return None if self.parts is None else self.parts.background

    def __len__(self) -> int:
        return len(self.bank)

    def images(self, rows_B: Tensor) -> Tensor:
        return self.bank.images(rows_B)

    def ids(self, rows_B: Tensor) -> Tensor | None:
        return None if self.parts is None else self.parts.batch(rows_B)


def steps_of(epochs: int, images: int, train: TrainConfig) -> int:
    """Optimiser steps of so many passes over the data; the last incomplete batch of a pass is left
    out.

    Raises:
        ConfigError: the batch is larger than the data set.
    """
    pairs = train.batch * train.accumulate
    if pairs > images:
        raise ConfigError(
            f"train.batch={train.batch} x train.accumulate={train.accumulate} is larger than the data set of {images} "
            f"images; lower train.batch to at most {images}"
        )
    return epochs * (images // pairs)


def train_phase(
    phase: Phase,
    encoder: Encoder,
    bank: Bank,
    accelerator: "Accelerator",
    metrics: MetricsLog,
    stop: StopSignal | None = None,
) -> None:
    """Train `encoder` and leave `phase.result` on disk; goes on where an earlier, killed call
    stopped.

    Raises:
        Stopped: a signal asked for it; the step is finished and checkpointed.
        TrainingError: the loss is not finite, nothing can be learnt, or the disk cannot be
            written.
    """
    trainer, stop = (
        Trainer(phase, encoder, bank, accelerator, metrics),
        stop or StopSignal(accelerator),
    )
    start = trainer.restore()
    shown = Progress(phase.name, start, phase.steps, enabled=accelerator.is_main_process)
    with shown as progress, trainer.stream(start) as stream:
        for step in range(start, phase.steps):
            lr = phase.lr_at(step)
            set_lr(trainer.optimizer, lr)
            trainer.prepare_step(step)
            for micro in range(phase.train.accumulate):
                terms, student = trainer.forward_backward(
                    stream, step, last=micro == phase.train.accumulate - 1
                )
            trainer.update(step)
            trainer.watch.guard.see(step, terms)
            if (step + 1) % phase.train.log_every == 0 or step + 1 == phase.steps:
                trainer.report(step, lr, terms, student, progress, stream)
            stopping = stop.agreed(step)
            if stopping or phase.train.saves_after(step + 1) or step + 1 == phase.steps:
                trainer.save(step + 1)
            if stopping:
                raise Stopped
            progress.advance(1, stream.waited)
    trainer.finish()


class Trainer:
    """The state of a phase: student, teacher, optimiser; methods are lines of the loop above."""

    def __init__(
        self,
        phase: Phase,
        encoder: Encoder,
        bank: Bank,
        accelerator: "Accelerator",
        metrics: MetricsLog,
    ) -> None:
        train, device = phase.train, accelerator.device
        self.phase, self.bank, self.accelerator, self.metrics = phase, bank, accelerator, metrics
        self.local_batch = rank_slice(
            train.batch, accelerator.process_index, accelerator.num_processes
        )
        torch.manual_seed(phase.seed)  # the heads' initial weights: the same on every rank
        self.objective = Objective(build_method(phase.objective), train.anchor).to(device)
        k, background = (
            (0, None) if phase.parts is None else (phase.parts.k, phase.parts.background)
        )
        method = self.objective.method
        network = method.build_network(encoder, k, background).to(
            device, memory_format=torch.channels_last
        )
        method.prepare(network, PhaseImages(bank, phase.parts))
        self.initial_weights = {
            n: v.detach().clone() for n, v in network.encoder.state_dict().items()
        }
        needs_initial = self.objective.needs_initial
        self.initial = make_teacher(network.encoder).eval() if needs_initial else None
        adapt(network.encoder, train.freeze_stages, train.lora_rank, train.lora_scale)
        self.teacher = make_teacher(network)
        self.network, self.k = network, k
        speed_up(
            [network.encoder, self.teacher.encoder, self.initial], train, accelerator.num_processes
        )
        self.optimizer = build_optimizer(network, train, phase.lr)
        self.student, self.optimizer = accelerator.prepare(network, self.optimizer)
        self.watch, self.pace = (
            Watch(phase, bank, accelerator),
            Pace(train.batch * train.accumulate, device),
        )
        set_train_mode(self.student, train.freeze_norm)
        follow_mode(self.teacher, network)

    # --- the lines of the loop

    def stream(self, start: int) -> BatchStream:
        """Batches of this rank from micro-batch start * accumulate on: a pure function of the
        step.
        """
        return BatchStream(
            self.bank,
            self.phase.train.batch,
            seed=self.phase.seed,
            start_step=start * self.phase.train.accumulate,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            pin=self.accelerator.device.type == "cuda" and isinstance(self.bank, ImageBank),
        )

    def prepare_step(self, step: int) -> None:
        """Dropout and stochastic depth draw from a state that depends on the step and the rank
        alone.
        """
        torch.manual_seed(hash((self.phase.seed, step, self.accelerator.process_index)) % 2**63)

    def forward_backward(
        self, stream: BatchStream, step: int, last: bool
    ) -> tuple[dict[str, Tensor], Outputs]:
        micro_step, rows_B, images = next(stream)
        views, method = self.make_views(micro_step, rows_B, images), self.objective.method
        with self.accelerator.autocast():
            with torch.no_grad():
                teacher = (
                    method.encode(self.teacher, views, predict=False)
                    if method.has_teacher
                    else None
                )
                initial = self._initial_outputs(views.images_NCHW)
            with self._sync(last):
                student = method.encode(self.student, views)
        with self._sync(last):
            progress = step / self.phase.steps
            terms = self.objective(student, teacher, initial, views, progress, rows_B)
            self.accelerator.backward(terms["loss"] / self.phase.train.accumulate)
        return terms, student

    def make_views(self, micro_step: int, indices: Tensor, images: Tensor) -> Views:
        """Make this rank's views: the plan of the global batch is drawn everywhere."""
        method, config = self.objective.method, self.phase.views
        plan = method.plan_views(self.phase.train.batch, config, self.phase.seed, micro_step)
        device = self.accelerator.device
        ids = None
        if self.phase.parts is not None:
            ids = self.phase.parts.batch(indices).to(device, non_blocking=True)
        images = images.to(device, non_blocking=True)
        background = None if self.phase.parts is None else self.phase.parts.background
        plan = plan.select_rows(self.local_batch)
        views = method.make_views(images, ids, plan, config, self.k, background)
        fast = views.images_NCHW.contiguous(memory_format=torch.channels_last)
        return replace(views, images_NCHW=fast)

    def _initial_outputs(self, images: Tensor) -> Outputs | None:
        if self.initial is None:
            return None
        features = self.initial(images)
        map_NDHW = features.maps[self.network.encoder.last_stage]
        return Outputs(pooled_ND=features.pooled, map_NDHW=map_NDHW)

    def _sync(self, last: bool) -> AbstractContextManager:
        return nullcontext() if last else self.accelerator.no_sync(self.student)

    def update(self, step: int) -> None:
        train = self.phase.train
        if train.clip is not None:
            self.accelerator.clip_grad_norm_(self.student.parameters(), train.clip)
        self.objective.method.adjust_gradients(self.network, step / self.phase.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_teacher(self.teacher, self.network, self.phase.momentum_at(step))

    def report(
        self,
        step: int,
        lr: float,
        terms: dict[str, Tensor],
        student: Outputs,
        progress: Progress,
        stream: BatchStream,
    ) -> None:
        """The only place where the host waits for the device."""
        bad = self.watch.first_bad_step()
        if bad is not None:
            raise explain_non_finite(
                bad, self.paths_of(bad), self.phase.folder / "non_finite_batch.txt"
            )
        values = self.watch.report(terms, student)
        progress.show({name: values[name] for name in terms})
        if self.phase.train.watches_after(step + 1) or step + 1 == self.phase.steps:
            values |= self.watch.look(
                self.network, self.teacher if self.objective.method.has_teacher else None
            )
        values |= {"lr": lr, **self.pace.look(step + 1, stream.waited)}
        self.metrics.write(phase=self.phase.name, step=step + 1, **values)
        self.accelerator.log(
            {f"{self.phase.name}/{name}": value for name, value in values.items()}, step=step
        )

    def paths_of(self, step: int) -> list[str]:
        train = self.phase.train
        micro = range(step * train.accumulate, (step + 1) * train.accumulate)
        indices = [
            i for m in micro for i in batch_indices(m, train.batch, len(self.bank), self.phase.seed)
        ]
        return [self.bank.paths[i] for i in indices]

    # --- disk

    def restore(self) -> int:
        """Finished steps of the newest whole checkpoint, 0 where there is none; loads it and trims
        the metrics log.
        """
        found = load_checkpoint(self.phase.folder / "checkpoints")
        self.metrics.rewind(self.phase.name, found.step if found else 0)
        if found is None:
            return 0
        self.network.load_state_dict(found.student)
        self.teacher.load_state_dict(found.teacher)
        self.optimizer.load_state_dict(found.optimizer)
        self.objective.load_state_dict(found.objective)
        return found.step

    def save(self, step: int) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.phase.folder / "checkpoints",
                step,
                self.network.state_dict(),
                self.teacher.state_dict(),
                self.optimizer.state_dict(),
                {"phase": self.phase.name},
                keep=self.phase.train.keep_checkpoints,
                keep_every=self.phase.train.keep_every,
                objective=self.objective.state_dict(),
            )
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """The kept network's encoder, mixed with the initial one where asked, on disk; first the
        one for discovery.
        """
        train, networks = (
            self.phase.train,
            {Network.student: self.network, Network.teacher: self.teacher},
        )
        for network in networks.values():
            merge_adapters(network.encoder)
        mixed = self.mixed(networks[train.keep].encoder)
        if self.accelerator.is_main_process:
            if train.discover_with not in (None, train.keep):
                save_tensors(
                    self.phase.folder / OTHER, networks[train.discover_with].encoder.state_dict()
                )
            save_tensors(self.phase.result, mixed)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def mixed(self, encoder: Encoder) -> dict[str, Tensor]:
        """The trained weights of `encoder`, in part or all; it is left with what a rule tried."""
        share, trained = (
            self.phase.train.interpolate,
            {n: v.clone() for n, v in encoder.state_dict().items()},
        )
        if share == "auto":
            folder, views = self.phase.folder, self.phase.views
            share = choose_share(
                folder, encoder, self.initial_weights, trained, self.bank, views, self.accelerator
            )
        return interpolate(self.initial_weights, trained, share)
