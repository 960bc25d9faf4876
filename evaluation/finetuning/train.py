"""Supervised training of a head with its encoder, from a configuration to results.json. The loop
is `Finetuner.train`.

Everything random is a function of (seed, step): a run that was killed anywhere ends bit-equal on
CPU.
"""

import time
from dataclasses import asdict
from pathlib import Path

import timm.optim
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import load_file
from torch import Tensor, nn

from evaluation.finetuning.augment import augment, step_generator
from evaluation.finetuning.config import FinetuneConfig, FinetuneTrain, Order, Select
from evaluation.finetuning.measure import PROTOCOL, VERSION, measure_classifier
from evaluation.heads import Head, build_head
from evaluation.heads.overlap import measure_overlap
from evaluation.heads.pictures import draw_localization
from evaluation.results import Results, Row, config_hash, read_results, save_results
from evaluation.tables import format_table, headings
from ssl_parts.commands.pretrain import start
from ssl_parts.configuration.compose import flatten
from ssl_parts.data import (
    BatchStream,
    ClassBalanced,
    ImageBank,
    batch_indices,
    build_bank,
    evenly_spaced,
    rank_slice,
    steps_per_epoch,
)
from ssl_parts.encoders import encoder_hash
from ssl_parts.engine.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from ssl_parts.engine.monitor import Guard, MetricsLog, explain_non_finite
from ssl_parts.engine.optim import create_optimizer, set_lr
from ssl_parts.engine.progress import Progress
from ssl_parts.engine.run_folder import commit, record_run, run_folder
from ssl_parts.engine.schedules import warmup_cosine
from ssl_parts.engine.stop import Stopped, StopSignal
from ssl_parts.engine.teacher import make_teacher, update_teacher
from ssl_parts.errors import ConfigError

SCRATCH, PRETRAINED = 1.0, 0.1  # learning rate of the encoder as a share of the head's


def finetune(config: FinetuneConfig) -> Results | None:
    """Train (or continue), evaluate on all test images, write pictures and results.json; returns
    its content, None beside the main process.

    Raises:
        ConfigError, DataError, WeightsError: before training and before any file.
        TrainingError: a run that cannot go on; its checkpoints stay.
        Stopped: SIGTERM or SIGUSR1; the process ends with the exit code stop.REQUEUE, the same
            command goes on.
    """
    accelerator = start(config)
    # stages of training
    accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    folder = run_folder(config)
    if (folder / "results.json").exists():
        return read_results(folder / "results.json")
    with StopSignal(accelerator) as stop:
        results = run_all(Finetuner(config, folder, accelerator), stop)
    accelerator.end_training()
    accelerator.free_memory()
    return results


def run_all(trainer: "Finetuner", stop: StopSignal) -> Results | None:
    """Train and evaluate; a signal stops it where nothing is lost."""
    began, config, accelerator = time.monotonic(), trainer.config, trainer.accelerator
    if accelerator.is_main_process:
        record_run(trainer.folder, config)
    accelerator.wait_for_everyone()
    if config.run.trackers:
        accelerator.init_trackers("finetune")
    trainer.train(stop)
    main = accelerator.is_main_process
    return stop.interruptible(lambda: finish(trainer, time.monotonic() - began) if main else None)


class Step(nn.Module):
    """A head whose forward pass is its loss: the call that distributed training has to see."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, images: Tensor, labels: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return self.head.loss(images, labels, progress=progress, generator=generator)


class Finetuner:
    """The state of a run: head, averaged head, optimiser, best validation accuracy so far."""

    def __init__(self, config: FinetuneConfig, folder: Path, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.train_bank, self.test_bank, self.val_bank = open_banks(config, folder)
        torch.manual_seed(config.run.seed)  # initial weights: the same on every rank
        encoder = config.encoder.build()
        classes = len(self.train_bank.dataset.classes)
        head = build_head(
            config.head.name, encoder, classes, config.head, frozen=config.train.frozen
        )
        self.head = head.to(accelerator.device)
        self.average = make_teacher(self.head).eval() if config.train.ema is not None else None
        self.optimizer = build_optimizer(
            self.head, config.train, config.encoder.weights is not None
        )
        self.step, self.optimizer = accelerator.prepare(Step(self.head), self.optimizer)
        batch, n = config.train.batch, len(self.train_bank)
        self.rows = rank_slice(batch, accelerator.process_index, accelerator.num_processes)
        self.epoch = steps_per_epoch(batch, n)
        self.steps = self.epoch * config.train.epochs
        self.indices_of = batch_order(config, self.train_bank)
        self.metrics = MetricsLog(folder / "metrics.jsonl", accelerator.is_main_process)
        self.guard = Guard(accelerator.device, patience=self.steps + 1)
        self.best = -1.0

    @property
    def result(self) -> Head:
        """The weights that are evaluated, but for a selection."""
        return self.head if self.average is None else self.average

    def train(self, stop: StopSignal) -> None:
        """Train to the last step from the newest checkpoint; Stopped after a checkpoint where a
        signal asked for it.
        """
        train, begun = self.config.train, self.restore()
        with self.stream(begun) as stream, self.progress(begun) as progress:
            for step in range(begun, self.steps):
                lr = lr_at(step, self.steps, train)
                set_lr(self.optimizer, lr)
                terms = self.forward_backward(stream, step)
                self.update(step)
                self.guard.see(step, terms)
                last = step + 1 == self.steps
                if (step + 1) % train.log_every == 0 or last:
                    self.report(step, lr, terms, progress)
                if train.select is Select.validation and (step + 1) % self.epoch == 0:
                    self.validate(step)
                stopping = stop.agreed(step)
                if stopping or (step + 1) % train.checkpoint_every == 0 or last:
                    self.save(step + 1)
                if stopping:
                    raise Stopped
                progress.advance(1, stream.waited)
        self.select()

    def stream(self, begun: int) -> BatchStream:
        return BatchStream(
            self.train_bank,
            self.config.train.batch,
            seed=self.config.run.seed,
            start_step=begun,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            indices_of=self.indices_of,
        )

    def progress(self, begun: int) -> Progress:
        return Progress(
            self.config.run.name, begun, self.steps, enabled=self.accelerator.is_main_process
        )

    def forward_backward(self, stream: BatchStream, step: int) -> dict[str, Tensor]:
        seed, device = self.config.run.seed, self.accelerator.device
        _, indices, images = next(stream)
        labels = torch.from_numpy(self.train_bank.labels[indices.numpy()]).to(device)
        images = augment(
            images.to(device), self.config.augment, self.config.train.batch, self.rows, seed, step
        )
        # What the encoder itself draws (stochastic depth, dropout) comes from a state of the step
        # and the rank.
        torch.manual_seed(
            step_generator(seed, step, 1, self.accelerator.process_index).initial_seed()
        )
        self.set_mode()
        with self.accelerator.autocast():
            terms = self.step(images, labels, step / self.steps, step_generator(seed, step, 2))
        self.accelerator.backward(terms["loss"])
        return terms

    def set_mode(self) -> None:
        self.step.train()
        if self.config.train.freeze_norm:
            for encoder in self.head.encoders():
                for module in encoder.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()

    def update(self, step: int) -> None:
        if self.config.train.clip is not None:
            self.accelerator.clip_grad_norm_(self.step.parameters(), self.config.train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            # Young averages forget the initial weights faster.
            update_teacher(
                self.average, self.head, min(self.config.train.ema, (1 + step) / (10 + step))
            )
            for mine, theirs in zip(self.average.buffers(), self.head.buffers(), strict=True):
                mine.copy_(theirs)

    def report(self, step: int, lr: float, terms: dict[str, Tensor], progress: Progress) -> None:
        values = {
            name: float(self.accelerator.reduce(v.detach().float(), "mean"))
            for name, v in terms.items()
        }
        bad = self.guard.check()
        if bad is not None:
            paths = [self.train_bank.paths[i] for i in self.indices_of(bad)]
            raise explain_non_finite(bad, paths, self.folder / "non_finite_batch.txt")
        self.metrics.write(phase=PROTOCOL, step=step + 1, lr=lr, **values)
        self.accelerator.log({**values, "lr": lr}, step=step)
        progress.show(values)

    # --- selection

    def validate(self, step: int) -> None:
        """Accuracy on the split val; the best weights so far are kept in best.safetensors (of
        equal ones the first).
        """
        accuracy = measure_classifier(self.result, self.val_bank)["top1"].mean
        self.metrics.write(phase=PROTOCOL, step=step + 1, validation=accuracy)
        if accuracy > self.best:
            self.best = accuracy
            if self.accelerator.is_main_process:
                save_tensors(self.folder / "best.safetensors", self.result.state_dict())

    def select(self) -> None:
        """Put the selected weights into `result` and on disk."""
        self.accelerator.wait_for_everyone()
        if self.config.train.select is Select.validation:
            self.result.load_state_dict(load_file(self.folder / "best.safetensors"))
        if self.accelerator.is_main_process:
            save_tensors(self.folder / "head.safetensors", self.result.state_dict())

    # --- disk

    def restore(self) -> int:
        """Finished steps of the newest whole checkpoint, 0 where there is none."""
        found = load_checkpoint(self.folder / "checkpoints")
        self.metrics.rewind(PROTOCOL, found.step if found else 0)
        if found is None:
            return 0
        self.head.load_state_dict(found.student)
        if self.average is not None:
            self.average.load_state_dict(found.teacher)
        self.optimizer.load_state_dict(found.optimizer)
        self.best = found.extra["best"]
        return found.step

    def save(self, step: int) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.folder / "checkpoints",
                step,
                self.head.state_dict(),
                {} if self.average is None else self.average.state_dict(),
                self.optimizer.state_dict(),
                {"best": self.best},
                keep=self.config.train.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()


def open_banks(
    config: FinetuneConfig, folder: Path
) -> tuple[ImageBank, ImageBank, ImageBank | None]:
    """Training, test and (where it selects) validation images.

    Raises:
        ConfigError: a data set without labels; a batch that does not fit it.
    """
    train = build_bank(config.data, cache_dir=folder / "cache")
    if len(train.dataset.classes) < 1 or train.labels.min() < 0:
        raise ConfigError(
            f"{train.dataset.name} has no labels in split {train.dataset.split}: fine-tuning needs them"
        )
    test = build_bank(config.data, config.data.test_split, cache_dir=folder / "cache")
    validating = config.train.select is Select.validation
    return (
        train,
        test,
        build_bank(config.data, "val", cache_dir=folder / "cache") if validating else None,
    )


def batch_order(config: FinetuneConfig, bank: ImageBank) -> ClassBalanced | None:
    """Class-balanced batches, or None for the stream's own permutation of all images.

    Raises:
        ConfigError: a batch that is no multiple of the images of a class.
    """
    train = config.train
    if config.order is Order.shuffled:
        return lambda step: batch_indices(step, train.batch, len(bank), config.run.seed)
    classes, rest = divmod(train.batch, train.images_per_class)
    if rest:
        raise ConfigError(
            f"train.batch={train.batch} is no multiple of train.images_per_class={train.images_per_class}, which "
            "class-balanced batches need"
        )
    return ClassBalanced(bank.labels, classes, train.images_per_class, config.run.seed)


def build_optimizer(head: Head, train: FinetuneTrain, weights_given: bool) -> torch.optim.Optimizer:
    """Any optimiser of timm: encoders at their share of the learning rate, the head at all of it;
    norms and biases are not decayed.

    Raises:
        ConfigError: timm does not know the name.
    """
    share = train.encoder_lr
    if share is None:
        share = PRETRAINED if weights_given else SCRATCH
    groups, inside = [], set()
    for encoder in [] if train.frozen else head.encoders():
        for group in timm.optim.param_groups_layer_decay(
            encoder.model, weight_decay=train.weight_decay, layer_decay=train.layer_decay
        ):
            groups.append({**group, "lr_scale": share * group["lr_scale"]})
            inside |= {id(p) for p in group["params"]}
    own = [p for p in head.parameters() if id(p) not in inside and p.requires_grad]
    groups.append(
        {
            "params": [p for p in own if p.ndim > 1],
            "weight_decay": train.weight_decay,
            "lr_scale": 1.0,
        }
    )
    groups.append({"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "lr_scale": 1.0})
    return create_optimizer(groups, train.optimizer, train.lr)


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
    extra: dict = {}
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
