"""How an encoder is trained: budget, optimiser, teacher, and what keeps a strong encoder strong."""

from dataclasses import dataclass, replace
from enum import Enum

from ssl_parts.errors import ConfigError


class Preset(Enum):
    auto = "auto"  # gentle when weights are given, from_scratch otherwise
    from_scratch = "from_scratch"
    gentle = "gentle"
    full = "full"


class Network(Enum):
    student = "student"
    teacher = "teacher"


class Schedule(Enum):
    restarts = "restarts"  # each round warms up and cools down by itself
    # one warm-up and one cosine over all rounds; heads and optimiser still begin anew in each
    one = "one"


@dataclass
class TrainConfig:
    """Keys that are null take the preset's value (PRESETS below); a number given by the user
    always wins.
    """

    # --- budget: changes results and cost
    preset: Preset = Preset.auto
    rounds: int = 1  # discover + train, this many times; 0 stops at the base encoder
    epochs: int = 100  # of each round
    batch: int = 64  # pairs of views a step, over all processes
    accumulate: int = 1  # batches a step; negatives come from one batch
    # instance contrast from scratch that makes the base encoder where no weights are given
    base_epochs: int = 0
    # its peak learning rate, and that of the rounds after it unless lr says otherwise
    base_lr: float = 1e-3
    # --- optimiser
    optimizer: str = "adamw"  # any name that timm.optim knows
    lr: float | None = None  # peak, for this batch: nothing is scaled behind your back
    lr_end: float = 0.0
    warmup_share: float = 0.05  # of the steps of a phase, linear from 0
    weight_decay: float | None = None
    clip: float | None = None  # norm of the gradient; null does not clip
    # --- teacher
    ema: float = 0.99  # momentum of the teacher
    ema_end: float | None = None  # where a cosine takes it; null keeps it constant
    keep: Network = Network.student  # which of the two is the result of a phase
    # --- rounds
    schedule: Schedule = Schedule.restarts  # of learning rate and teacher momentum over the rounds
    # which of the two finds the parts of the next round; null: the kept one
    discover_with: Network | None = None
    # end before a round whose parts agree with the last ones by more than this (NMI)
    stop_nmi: float | None = None
    # --- do no harm
    layer_decay: float | None = None  # learning rate of each layer towards the input
    freeze_norm: bool | None = None  # batch-norm statistics stay those of the initial encoder
    anchor: float | None = None  # weight of the distance to the initial encoder's features
    # share of trained weights in the result, the rest is the initial encoder's (WiSE-FT); `auto`
    # chooses it without labels, see training/mixing.py
    interpolate: float | int | str | None = None
    freeze_stages: int = 0  # the first so many of Encoder.stages stay as they are
    # of low-rank adapters that are trained in place of the encoder's weights; 0: no adapters
    lora_rank: int = 0
    lora_scale: float = 1.0  # what their product is multiplied with (alpha / rank of the paper)
    # --- speed and memory: losses stay the same within rounding
    # torch.compile of the encoders: minutes at the start, then faster; worth it on GPUs
    compile: bool = False
    # recompute activations in the backward pass: less memory, a third more time; batch-norm
    # statistics then move twice a step, so ViTs and ConvNeXts end as without it, ResNets nearly
    grad_checkpointing: bool = False
    sync_batchnorm: bool = False  # batch-norm statistics over all GPUs, not each for itself
    # --- checkpoints and logs: change nothing but disk and speed
    checkpoint_every: int = 500  # steps
    keep_checkpoints: int = 2  # the newest ones
    # and, for good, one every so many steps; null keeps no milestones
    keep_every: int | None = None
    log_every: int = 10  # steps
    # steps between looks at training images: online k-NN, teacher and student
    watch_every: int = 200

    def check(self) -> None:
        counts = ("epochs", "batch", "accumulate")
        for key in (*counts, "checkpoint_every", "keep_checkpoints", "log_every", "watch_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"train.{key}={getattr(self, key)} must be at least 1")
        if self.keep_every is not None and self.keep_every < 1:
            raise ConfigError(
                f"train.keep_every={self.keep_every} must be at least 1, or null for no milestones"
            )
        for key in ("rounds", "base_epochs"):
            if getattr(self, key) < 0:
                raise ConfigError(f"train.{key}={getattr(self, key)} must be at least 0")
        for key in ("warmup_share", "ema", "ema_end", "interpolate", "layer_decay", "stop_nmi"):
            value = getattr(self, key)
            if key == "interpolate" and isinstance(value, str):
                if value != "auto":
                    raise ConfigError(
                        f"train.interpolate={value!r} must be a number in [0, 1] or auto"
                    )
            elif value is not None and not 0 <= value <= 1:
                raise ConfigError(f"train.{key}={value} must lie in [0, 1]")
        for key in ("freeze_stages", "lora_rank"):
            if getattr(self, key) < 0:
                raise ConfigError(f"train.{key}={getattr(self, key)} must be at least 0")
        for key in ("lr", "base_lr", "lr_end", "weight_decay", "anchor", "clip", "lora_scale"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"train.{key}={value} must be a finite number of at least 0")

    def saves_after(self, steps: int) -> bool:
        """Whether a checkpoint is due after so many steps of a phase."""
        return steps % self.checkpoint_every == 0 or (
            self.keep_every is not None and steps % self.keep_every == 0
        )

    def watches_after(self, steps: int) -> bool:
        """Whether the log line after so many steps is the first at or behind a multiple of
        watch_every.
        """
        return steps // self.watch_every > (steps - self.log_every) // self.watch_every

    def resolved(self, weights_given: bool) -> "TrainConfig":
        """A copy in which the preset is named and every null that a preset decides is a number."""
        preset = self.preset
        if preset is Preset.auto:
            preset = Preset.gentle if weights_given else Preset.from_scratch
        meant = {"lr": self.base_lr} | PRESETS[preset]
        values = {key: value for key, value in meant.items() if getattr(self, key) is None}
        return replace(self, preset=preset, **values)


# What each preset means. `gentle` is for an encoder worth keeping and a small data set: without it
# a few epochs cost a supervised ImageNet MobileNetV2 ten points of linear accuracy on CUB's first
# ten classes.
PRESETS: dict[Preset, dict[str, float | bool]] = {
    Preset.from_scratch: {
        "weight_decay": 0.05, "layer_decay": 1.0, "freeze_norm": False, "anchor": 0.0, "interpolate": 1.0,
    },
    Preset.gentle: {
        "lr": 2e-4, "weight_decay": 0.02, "layer_decay": 0.7, "freeze_norm": True, "anchor": 5.0, "interpolate": 0.5,
    },
    Preset.full: {
        "lr": 2e-4, "weight_decay": 0.05, "layer_decay": 1.0, "freeze_norm": False, "anchor": 0.0, "interpolate": 1.0,
    },
}  # fmt: skip
