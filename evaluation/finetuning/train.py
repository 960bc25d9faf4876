"""Supervised training of a head with its encoder, from a configuration to results.json.

A `Finetuner` says what one step is; the loop around it is `engine.loop.Loop.train`, as for
pretraining. Everything random is a function of (seed, step): a run that was killed anywhere ends
bit-equal on a CPU.

Shapes: B images of this process, C classes.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import load_file
from torch import Tensor, nn

from evaluation.finetuning.augment import augment
from evaluation.finetuning.banks import batch_order, open_banks
from evaluation.finetuning.config import FinetuneConfig, FinetuneTrain
from evaluation.finetuning.measure import PROTOCOL, VERSION, measure_classifier
from evaluation.heads import Head, build_head
from evaluation.heads.overlap import measure_overlap
from evaluation.heads.pictures import draw_localization
from evaluation.results import Results, Row, config_hash, read_results, save_results
from evaluation.tables import format_table, headings
from ssl_parts.configuration.compose import flatten
from ssl_parts.data import BatchStream, evenly_spaced, rank_slice, steps_per_epoch
from ssl_parts.encoders import encoder_hash, make_encoder
from ssl_parts.engine.checkpoint import save_tensors
from ssl_parts.engine.loop import Cadence, Learner, Loop
from ssl_parts.engine.modes import set_train_mode
from ssl_parts.engine.monitor import MetricsLog, Monitor
from ssl_parts.engine.optim import build_optimizer
from ssl_parts.engine.run_folder import commit, record_run, run_folder
from ssl_parts.engine.schedules import warmup_cosine
from ssl_parts.engine.start import start_accelerator, supervise_run
from ssl_parts.engine.state import TrainingState
from ssl_parts.engine.stop import StopSignal
from ssl_parts.engine.teacher import make_teacher, update_teacher
from ssl_parts.engine.trackers import start_trackers
from ssl_parts.seeds import derive_seed, seeded_generator

SCRATCH, PRETRAINED = 1.0, 0.1  # learning rate of the encoder as a share of the head's
ENCODER, HEAD = 1, 2  # what draws random numbers in a step, beside the augmentation


def finetune(config: FinetuneConfig) -> Results | None:
    """Train (or continue), evaluate on all test images, write pictures and results.json.

    Returns:
        the content of results.json, None beside the main process.

    Raises:
        ConfigError, DataError, WeightsError: before training and before any file.
        TrainingError: a run that cannot go on, also because the disk is full; its checkpoints
            stay.
        Stopped: SIGTERM or SIGUSR1; the process ends with the exit code stop.REQUEUE, the same
            command continues.
    """
    # some heads leave parameters out in some of their stages of training
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = start_accelerator(config.run, unused)
    folder = run_folder(config)
    if (folder / "results.json").exists():
        return read_results(folder / "results.json")
    with supervise_run(accelerator, folder) as stop:
        results = run_all(Finetuner(config, folder, accelerator), stop)
    accelerator.free_memory()
    return results


def run_all(trainer: "Finetuner", stop: StopSignal) -> Results | None:
    """Train and evaluate; a signal stops it where nothing is lost."""
    began, config, accelerator = time.monotonic(), trainer.config, trainer.accelerator
    main = accelerator.is_main_process
    if main:
        record_run(trainer.folder, config)
    accelerator.wait_for_everyone()
    start_trackers(accelerator, trainer.folder, flatten(config))
    trainer.train(stop)
    return stop.interruptible(lambda: finish(trainer, time.monotonic() - began) if main else None)


class Step(nn.Module):
    """A head whose forward pass is its loss: the call that distributed training has to see."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, images: Tensor, labels: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See `Head.loss`."""
        return self.head.loss(images, labels, progress=progress, generator=generator)


class Finetuner(Learner):
    """Head, averaged head and optimiser of a run, and what one step does with them.

    Attributes:
        head: with its encoder; `wrapped` is its loss as accelerate wrapped it: forward passes with
            gradient go through that one.
        average: moving average of the head's weights (train.ema), or None.
        steps: of the whole run; epoch: steps of a pass over the data.
    """

    def __init__(self, config: FinetuneConfig, folder: Path, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.train_bank, self.test_bank, self.val_bank = open_banks(config, folder)
        train, batch = config.train, config.train.batch
        torch.manual_seed(config.run.seed)  # initial weights: the same on every rank
        encoder = make_encoder(config.encoder)
        classes = len(self.train_bank.dataset.classes)
        head = build_head(config.head.name, encoder, classes, config.head, frozen=train.frozen)
        self.head = head.to(accelerator.device)
        self.average = make_teacher(self.head).eval() if train.ema is not None else None
        optimizer = make_optimizer(self.head, train, config.encoder.weights is not None)
        self.wrapped, self.optimizer = accelerator.prepare(Step(self.head), optimizer)
        self.rows = rank_slice(batch, accelerator.process_index, accelerator.num_processes)
        self.epoch = steps_per_epoch(batch, len(self.train_bank))
        self.steps = self.epoch * train.epochs
        self.indices_of = batch_order(config, self.train_bank)
        best = {"best": -1.0}  # accuracy on the split val
        self.state = TrainingState(self.head, self.average, self.optimizer, extra=best)
        self.monitor = Monitor(
            PROTOCOL,
            folder,
            MetricsLog(folder / "metrics.jsonl", accelerator.is_main_process),
            accelerator,
            steps=self.steps,
            batch=batch,
            unit="images",
            title=config.run.name,
        )

    @property
    def result(self) -> Head:
        """The weights that are evaluated, but for a selection."""
        return self.head if self.average is None else self.average

    def train(self, stop: StopSignal) -> None:
        """Train to the last step from the newest checkpoint, and select.

        Raises:
            Stopped, TrainingError: as `Loop.train`.
        """
        train = self.config.train
        cadence = Cadence(train.log_every, train.checkpoint_every, train.keep_checkpoints)
        Loop(self.folder, self.steps, cadence, self.monitor, self.accelerator, stop).train(self)
        self.select()

    # --- one step

    def open_stream(self, start: int) -> BatchStream:
        """Read this rank's batches from step `start` on, in the order of train.order."""
        return BatchStream(
            self.train_bank,
            self.config.train.batch,
            seed=self.config.run.seed,
            start_step=start,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            indices_of=self.indices_of,
        )

    def lr_at(self, step: int) -> float:
        """Peak learning rate of the head at a step."""
        return lr_at(step, self.steps, self.config.train)

    def take_step(self, stream: BatchStream, step: int) -> dict[str, Tensor]:
        """One optimiser step with one batch.

        Returns:
            the head's scalar terms of this process, with "loss".
        """
        _, indices, images = next(stream)
        terms = self.forward_backward(indices, images, step)
        self.update(step)
        return terms

    def forward_backward(
        self, indices_B: Tensor, images_B3HW: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Put the gradient of a batch's loss into the parameters.

        Args:
            indices_B: positions of the images in the training bank.
            images_B3HW: uint8, not augmented.
            step: decides, with the seed, everything that is drawn.

        Returns:
            scalar terms of this process, with "loss".
        """
        seed, device, train = self.config.run.seed, self.accelerator.device, self.config.train
        labels_B = torch.from_numpy(self.train_bank.labels[indices_B.numpy()]).to(device)
        views_B3HW = augment(
            images_B3HW.to(device), self.config.augment, train.batch, self.rows, seed, step
        )
        # Stochastic depth and dropout of the encoder draw from torch's global state.
        torch.manual_seed(derive_seed(seed, step, ENCODER, self.accelerator.process_index))
        set_train_mode(self.wrapped, self.head.encoders(), train.freeze_norm)
        generator = seeded_generator(seed, step, HEAD)
        with self.accelerator.autocast():
            terms = self.wrapped(views_B3HW, labels_B, step / self.steps, generator)
        self.accelerator.backward(terms["loss"])
        return terms

    def update(self, step: int) -> None:
        """Apply the gradients: clip, optimiser step, then move the average towards the head.

        Afterwards no parameter has a gradient.
        """
        train = self.config.train
        if train.clip is not None:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and train.ema is not None:
            # Young averages forget the initial weights faster.
            update_teacher(self.average, self.head, min(train.ema, (1 + step) / (10 + step)))

    def paths_of(self, step: int) -> list[str]:
        """The images of a step's global batch."""
        return [self.train_bank.paths[i] for i in self.indices_of(step)]

    # --- selection

    def after_step(self, done: int) -> None:
        """After each epoch: accuracy on the split val, where train.select asks for it.

        The best weights so far are kept in best.safetensors, of equal ones the first.
        """
        if self.val_bank is None or done % self.epoch:
            return
        accuracy = measure_classifier(self.result, self.val_bank)["top1"].mean
        self.monitor.write(done, {"validation": accuracy})
        if accuracy > self.state.extra["best"]:
            self.state.extra["best"] = accuracy
            if self.accelerator.is_main_process:
                save_tensors(self.folder / "best.safetensors", self.result.state_dict())

    def select(self) -> None:
        """Put the selected weights into `result` and into head.safetensors."""
        self.accelerator.wait_for_everyone()
        if self.val_bank is not None:
            self.result.load_state_dict(load_file(self.folder / "best.safetensors"))
        if self.accelerator.is_main_process:
            save_tensors(self.folder / "head.safetensors", self.result.state_dict())


def make_optimizer(head: Head, train: FinetuneTrain, weights_given: bool) -> torch.optim.Optimizer:
    """Build the optimiser of a head: its encoders learn at their share of the learning rate.

    Raises:
        ConfigError: timm does not know the name.
    """
    share = train.encoder_lr
    if share is None:
        share = PRETRAINED if weights_given else SCRATCH
    return build_optimizer(
        head,
        [] if train.frozen else head.encoders(),
        train.optimizer,
        train.lr,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay,
        encoder_share=share,
    )


def lr_at(step: int, steps: int, train: FinetuneTrain) -> float:
    """Linear warm-up, then a cosine to 0, or a tenfold fall at each milestone."""
    if not train.milestones:
        return warmup_cosine(step, steps, train.lr, 0.0, train.warmup_share)
    warmup = int(train.warmup_share * steps)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    return train.lr * 0.1 ** sum(step >= share * steps for share in train.milestones)


def finish(trainer: Finetuner, seconds: float) -> Results:
    """Evaluate the result on all test images, draw and measure where it finds its evidence, write results.json, say
    where it is.
    """
    config, folder, head, bank = trainer.config, trainer.folder, trainer.result, trainer.test_bank
    row = result_row(trainer, seconds)
    extra: dict[str, Any] = {}
    if config.run.overlap:
        extra["overlap"] = measure_overlap(head, bank, evenly_spaced(len(bank), config.run.overlap))
    if config.run.pictures:
        shown = evenly_spaced(len(bank), config.run.pictures)
        extra["columns"] = draw_localization(head, bank.images(shown), folder / "localization.png")
    save_results(folder / "results.json", "finetune", [row], **extra)
    print("\n" + format_table([row], headings([row])))
    if config.run.pictures:
        print(f"\nSheet:   {folder / 'localization.png'} ({', '.join(extra['columns'])})")
    print(f"Results: {folder / 'results.json'}")
    return read_results(folder / "results.json")


def result_row(trainer: Finetuner, seconds: float) -> Row:
    config, bank = trainer.config, trainer.test_bank
    val = trainer.val_bank
    best = (
        f"validation: best of {config.train.epochs} epochs on {len(val)} images"
        if val is not None
        else "none: last"
    )
    return Row(
        name=config.head.name + (" (frozen)" if config.train.frozen else ""),
        protocol=PROTOCOL,
        version=VERSION,
        data=config.data.display_name,
        splits={
            "train": len(trainer.train_bank),
            "val": 0 if val is None else len(val),
            bank.dataset.split: len(bank),
        },
        resolution=bank.size,
        fit=bank.fit.value,
        layer=trainer.head.encoder.last_stage,
        pooling=config.head.name,
        selection=best,
        seeds=[config.run.seed],
        values=measure_classifier(trainer.result, bank),
        settings={
            "train": asdict(config.train),
            "augment": asdict(config.augment),
            "head": asdict(config.head),
        },
        encoder={"name": config.encoder.name, "hash": encoder_hash(trainer.result.encoder)},
        commit=commit(),
        config_hash=config_hash(flatten(config)),
        seconds=round(seconds, 1),
    )
