"""One phase of training: an encoder goes in, a better one comes out.

The base encoder from scratch, each PARTICLE round and the arms that it is compared with are all
phases: they differ in their objective and in whether images come with part ids. `train_phase` is
the whole story; the loop itself, shared with supervised heads, is `engine.loop.Loop.train`.

Shapes: B images of this process, N = 2B views (all first views, then all second ones), hxw a grid
of part ids over an image, gxg one over a view, K part ids.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from ssl_parts.data import Bank, BatchStream, ImageBank, batch_indices, rank_slice
from ssl_parts.encoders import Encoder
from ssl_parts.engine.adapt import adapt
from ssl_parts.engine.loop import Cadence, Learner, Loop
from ssl_parts.engine.modes import follow_mode, set_train_mode
from ssl_parts.engine.monitor import MetricsLog, Monitor
from ssl_parts.engine.optim import build_optimizer
from ssl_parts.engine.schedules import cosine, warmup_cosine
from ssl_parts.engine.speed import speed_up
from ssl_parts.engine.state import TrainingState
from ssl_parts.engine.stop import StopSignal
from ssl_parts.engine.teacher import make_teacher, update_teacher
from ssl_parts.errors import ConfigError
from ssl_parts.objectives import Objective, ObjectiveConfig, Outputs, build_method
from ssl_parts.parts.store import PartStore
from ssl_parts.pretraining.phase_images import PhaseImages
from ssl_parts.pretraining.phase_result import RESULT, PhaseResult, encoder_of
from ssl_parts.pretraining.train_config import Network, ResolvedTrainConfig, TrainConfig
from ssl_parts.pretraining.watch import Watch
from ssl_parts.seeds import derive_seed
from ssl_parts.views import Views, ViewsConfig


@dataclass(frozen=True)
class Phase:
    """What one phase does.

    Attributes:
        name: in the log and on the console.
        folder: holds its checkpoints and, once it is finished, encoder.safetensors.
        steps: optimiser steps.
        lr: peak learning rate.
        seed: of heads, batches, views and dropout.
        train: with every preset resolved.
        parts: ids of the training images, or None.
        earlier_steps: of phases under the same schedule.
        schedule_steps: of the whole schedule; None: the phase has one of its own.
        first_step: steps of the run before this phase, as trackers count them.
    """

    name: str
    folder: Path
    steps: int
    lr: float
    seed: int
    objective: ObjectiveConfig
    train: ResolvedTrainConfig
    views: ViewsConfig
    parts: PartStore | None = None
    earlier_steps: int = 0
    schedule_steps: int | None = None
    first_step: int = 0

    @property
    def result(self) -> Path:
        """The encoder that the phase leaves."""
        return self.folder / RESULT

    @property
    def k(self) -> int:
        """Number of part ids, 0 without parts."""
        return 0 if self.parts is None else self.parts.k

    @property
    def background(self) -> int | None:
        """The part id of what is not object, if there is one."""
        return None if self.parts is None else self.parts.background

    @property
    def cadence(self) -> Cadence:
        """How often the phase reports and saves."""
        train = self.train
        return Cadence(
            train.log_every, train.checkpoint_every, train.keep_checkpoints, train.keep_every
        )

    def lr_at(self, step: int) -> float:
        """Learning rate of step 0, 1, ... of this phase: warm-up, then a cosine."""
        steps, train = self.schedule_steps or self.steps, self.train
        return warmup_cosine(
            self.earlier_steps + step, steps, self.lr, train.lr_end, train.warmup_share
        )

    def momentum_at(self, step: int) -> float:
        """Momentum of the teacher at step 0, 1, ... of this phase: a cosine from ema to ema_end."""
        start, end = self.train.ema, self.train.ema_end
        steps = self.schedule_steps or self.steps
        return cosine(self.earlier_steps + step, steps, start, start if end is None else end)


def steps_of(epochs: int, images: int, train: TrainConfig) -> int:
    """Optimiser steps of so many passes over the data.

    The last incomplete batch of a pass is left out.

    Raises:
        ConfigError: the batch is larger than the data set.
    """
    pairs = train.batch * train.accumulate
    if pairs > images:
        raise ConfigError(
            f"train.batch={train.batch} x train.accumulate={train.accumulate} is larger than the "
            f"data set of {images} images; lower train.batch to at most {images}"
        )
    return epochs * (images // pairs)


def train_phase(
    phase: Phase,
    encoder: Encoder,
    bank: Bank,
    accelerator: Accelerator,
    metrics: MetricsLog,
    stop: StopSignal | None = None,
    detailed: Bank | None = None,
) -> None:
    """Train `encoder` and leave `phase.result` on disk.

    A call that follows a killed one continues from its newest checkpoint, bit for bit.

    Args:
        bank: training images. metrics: the log of the run.
        stop: hears signals; None hears none.
        detailed: the same images with more pixels, to cut views from; None: `bank`.

    Raises:
        Stopped: a signal asked for it; the step is finished and checkpointed.
        TrainingError: the loss is not finite, nothing can be learnt, or the disk cannot be
            written.
    """
    trainer = Trainer(phase, encoder, bank, accelerator, detailed)
    monitor = Monitor(
        phase.name,
        phase.folder,
        metrics,
        accelerator,
        steps=phase.steps,
        batch=phase.train.batch * phase.train.accumulate,
        first_step=phase.first_step,
    )
    stop = stop or StopSignal(accelerator)
    Loop(phase.folder, phase.steps, phase.cadence, monitor, accelerator, stop).train(trainer)
    trainer.finish()


class Trainer(Learner):
    """Student, teacher and optimiser of a phase, and what one step does with them.

    Attributes:
        student: encoder and heads that take gradient; `wrapped` is the same network as accelerate
            wrapped it: forward passes with gradient go through that one.
        teacher: moving average of the student, which gives targets.
        initial: encoder that training started from, where train.anchor holds on to it.
        bank: what views are cut from.
        initial_weights: its state dict, for train.interpolate.
        outputs: of the student's last forward pass, for reports.
    """

    def __init__(
        self,
        phase: Phase,
        encoder: Encoder,
        bank: Bank,
        accelerator: Accelerator,
        detailed: Bank | None = None,
    ) -> None:
        """Build everything that `encoder`, which is changed in place, needs to be trained."""
        train, device = phase.train, accelerator.device
        self.phase, self.bank, self.accelerator = phase, detailed or bank, accelerator
        self.rows = rank_slice(train.batch, accelerator.process_index, accelerator.num_processes)
        torch.manual_seed(phase.seed)  # the heads' initial weights: the same on every rank
        self.objective = Objective(build_method(phase.objective), train.anchor).to(device)
        method = self.objective.method
        student = method.build_network(encoder, phase.k, phase.background)
        self.student = student.to(device).to(memory_format=torch.channels_last)
        method.prepare(self.student, PhaseImages(bank, phase.parts, phase.folder, accelerator))
        self.encoder = encoder
        self.initial_weights = {n: v.detach().clone() for n, v in encoder.state_dict().items()}
        self.initial = make_teacher(encoder).eval() if self.objective.needs_initial else None
        adapt(encoder, train.freeze_stages, train.lora_rank, train.lora_scale)
        self.teacher = make_teacher(self.student)
        speed_up(
            [encoder, encoder_of(self.teacher), self.initial],
            grad_checkpointing=train.grad_checkpointing,
            sync_batchnorm=train.sync_batchnorm,
            compiled=train.compile,
            processes=accelerator.num_processes,
        )
        optimizer = build_optimizer(
            self.student,
            [encoder],
            train.optimizer,
            phase.lr,
            weight_decay=train.weight_decay,
            layer_decay=train.layer_decay,
        )
        self.wrapped, self.optimizer = accelerator.prepare(self.student, optimizer)
        self.state = TrainingState(
            self.student, self.teacher, self.optimizer, self.objective, {"phase": phase.name}
        )
        self.watch = Watch(phase.name, phase.folder, phase.k, bank, accelerator)
        self.outputs: Outputs | None = None
        set_train_mode(self.wrapped, [encoder], train.freeze_norm)
        follow_mode(self.teacher, self.student)

    # --- one step

    def open_stream(self, start: int) -> BatchStream:
        """Read this rank's batches from step `start` on; a step has train.accumulate of them."""
        return BatchStream(
            self.bank,
            self.phase.train.batch,
            seed=self.phase.seed,
            start_step=start * self.phase.train.accumulate,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            pin=self.accelerator.device.type == "cuda" and isinstance(self.bank, ImageBank),
        )

    def lr_at(self, step: int) -> float:
        """See `Phase.lr_at`."""
        return self.phase.lr_at(step)

    def take_step(self, stream: BatchStream, step: int) -> dict[str, Tensor]:
        """One optimiser step over train.accumulate batches.

        Returns:
            scalar terms of the last batch, of this process, with "loss".
        """
        self.seed_step(step)
        terms: dict[str, Tensor] = {}
        for micro in range(self.phase.train.accumulate):
            micro_step, rows_B, images_B3HW = next(stream)
            views = self.make_views(micro_step, rows_B, images_B3HW)
            last = micro == self.phase.train.accumulate - 1
            terms = self.forward_backward(views, rows_B, step, last)
        self.update(step)
        return terms

    def seed_step(self, step: int) -> None:
        """Let dropout and stochastic depth draw from a state of the step and the rank alone."""
        torch.manual_seed(derive_seed(self.phase.seed, step, self.accelerator.process_index))

    def make_views(self, micro_step: int, rows_B: Tensor, images_B3HW: Tensor) -> Views:
        """Make the views of each image on the device, with part ids on the same grid.

        Args:
            micro_step: number of the batch; with the seed it decides what is drawn.
            rows_B: positions of the images in the bank. images_B3HW: uint8.
        """
        phase, method, device = self.phase, self.objective.method, self.accelerator.device
        # What the global batch gets is drawn on every rank, which then applies its own share: the
        # views do not depend on the number of processes.
        plan = method.plan_views(phase.train.batch, phase.views, phase.seed, micro_step)
        ids_Bhw = None
        if phase.parts is not None:
            ids_Bhw = phase.parts.batch(rows_B).to(device, non_blocking=True)
        images_B3HW = images_B3HW.to(device, non_blocking=True)
        plan = plan.select_rows(self.rows)
        views = method.make_views(
            images_B3HW, ids_Bhw, plan, phase.views, phase.k, phase.background
        )
        fast = views.images_NCHW.contiguous(memory_format=torch.channels_last)
        return replace(views, images_NCHW=fast)

    def forward_backward(
        self, views: Views, rows_B: Tensor, step: int, last: bool = True
    ) -> dict[str, Tensor]:
        """Add the gradient of one batch's loss, divided by train.accumulate, to the parameters.

        Args:
            views: images (N, 3, S, S) float in [0, 1], ids (N, g, g) or None, priorities (N, K).
            rows_B: positions of their images in the bank.
            step: of the phase, for objectives that change over it.
            last: whether the processes average their gradients now.

        Returns:
            scalar terms of this process, unweighted, with "loss", their weighted sum.
        """
        method = self.objective.method
        with self.accelerator.autocast():
            with torch.no_grad():
                teacher = None
                if method.has_teacher:
                    teacher = method.encode(self.teacher, views, predict=False)
                initial = self._encode_initial(views.images_NCHW)
            with self._averaged(last):
                student = method.encode(self.wrapped, views)
        with self._averaged(last):
            progress = step / self.phase.steps
            terms = self.objective(student, teacher, initial, views, progress, rows_B)
            self.accelerator.backward(terms["loss"] / self.phase.train.accumulate)
        self.outputs = student
        return terms

    def update(self, step: int) -> None:
        """Apply the gradients: clip, optimiser step, then move the teacher towards the student.

        The objective has the last word on the gradients (DINO stops those of its prototypes at
        first). Afterwards no parameter has a gradient.
        """
        clip = self.phase.train.clip
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), clip)
        self.objective.method.adjust_gradients(self.student, step / self.phase.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_teacher(self.teacher, self.student, self.phase.momentum_at(step))

    def _encode_initial(self, images_N3SS: Tensor) -> Outputs | None:
        if self.initial is None:
            return None
        features = self.initial(images_N3SS)
        map_NDHW = features.maps[self.encoder.last_stage]
        return Outputs(pooled_ND=features.pooled, map_NDHW=map_NDHW)

    def _averaged(self, now: bool) -> AbstractContextManager:
        return nullcontext() if now else self.accelerator.no_sync(self.wrapped)

    # --- reports

    def measure(self, done: int) -> dict[str, float]:
        """Statistics of the last outputs; now and then, and at the end, of training images too.

        Raises:
            TrainingError: as `Watch.measure_outputs`.
        """
        values = {} if self.outputs is None else self.watch.measure_outputs(self.outputs)
        if self.phase.train.watches_after(done) or done == self.phase.steps:
            teacher = encoder_of(self.teacher) if self.objective.method.has_teacher else None
            values |= self.watch.measure_images(self.encoder, teacher)
        return values

    def paths_of(self, step: int) -> list[str]:
        """The images of all batches of a step."""
        train, n = self.phase.train, len(self.bank)
        first = step * train.accumulate
        batches = range(first, first + train.accumulate)
        rows = [batch_indices(b, train.batch, n, self.phase.seed) for b in batches]
        return [self.bank.paths[i] for batch in rows for i in batch]

    # --- the end of a phase

    def finish(self) -> None:
        """Write what the phase leaves (`PhaseResult.write`) and free the memory of training."""
        phase = self.phase
        result = PhaseResult(
            phase.folder,
            phase.train,
            self.initial_weights,
            self.bank,
            phase.views,
            self.accelerator,
        )
        result.write({Network.student: self.encoder, Network.teacher: encoder_of(self.teacher)})
        self.accelerator.free_memory()
