"""How an encoder is trained: budget, optimiser, teacher, and what keeps a strong encoder strong.

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.errors import ConfigError

AUTO = "auto"


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
    # discover + train, this many times; 0 stops at the base encoder
    rounds: int = bounded(1, at_least=0)
    epochs: int = bounded(100, at_least=1)  # of each round
    batch: int = bounded(64, at_least=1)  # pairs of views per step, over all processes
    accumulate: int = bounded(1, at_least=1)  # batches per step; negatives come from one batch
    # instance contrast from scratch that makes the base encoder where no weights are given
    base_epochs: int = bounded(0, at_least=0)
    # its peak learning rate, and that of the rounds after it unless lr says otherwise
    base_lr: float = bounded(1e-3, at_least=0)
    # --- optimiser
    optimizer: str = "adamw"  # any name that timm.optim knows
    # peak, for this batch: it is not scaled by the batch
    lr: float | None = bounded(None, at_least=0)
    lr_end: float = bounded(0.0, at_least=0)
    # of the steps of a phase, linear from 0
    warmup_share: float = bounded(0.05, at_least=0, at_most=1)
    weight_decay: float | None = bounded(None, at_least=0)
    # norm of the gradient; null does not clip
    clip: float | None = bounded(None, at_least=0)
    # --- teacher
    ema: float = bounded(0.99, at_least=0, at_most=1)  # momentum of the teacher
    # where a cosine takes it; null keeps it constant
    ema_end: float | None = bounded(None, at_least=0, at_most=1)
    keep: Network = Network.student  # which of the two is the result of a phase
    # --- rounds
    schedule: Schedule = Schedule.restarts  # of learning rate and teacher momentum over the rounds
    # which of the two finds the parts of the next round; null: the kept one
    discover_with: Network | None = None
    # end before a round whose parts agree with the last ones by more than this (NMI)
    stop_nmi: float | None = bounded(None, at_least=0, at_most=1)
    # --- do no harm
    # learning rate of each layer towards the input
    layer_decay: float | None = bounded(None, at_least=0, at_most=1)
    freeze_norm: bool | None = None  # batch-norm statistics stay those of the initial encoder
    # weight of the distance to the initial encoder's features
    anchor: float | None = bounded(None, at_least=0)
    # share of trained weights in the result, the rest is the initial encoder's (WiSE-FT); `auto`
    # chooses it without labels, see ssl_parts/pretraining/mixing.py
    interpolate: float | int | str | None = bounded(None, at_least=0, at_most=1)
    # the first so many of Encoder.stages stay as they are; -2: all but the last two
    freeze_stages: int = 0
    # of low-rank adapters that are trained in place of the encoder's weights; 0: no adapters
    lora_rank: int = bounded(0, at_least=0)
    # what their product is multiplied with (alpha / rank of the paper)
    lora_scale: float = bounded(1.0, at_least=0)
    # --- speed and memory: losses stay the same within rounding
    # torch.compile of the encoders: minutes at the start, then faster; worth it on GPUs
    compile: bool = False
    # recompute activations in the backward pass: less memory, a third more time; batch-norm
    # statistics then move twice per step, so ViTs and ConvNeXts end as without it, ResNets nearly
    grad_checkpointing: bool = False
    sync_batchnorm: bool = False  # batch-norm statistics over all GPUs, not each for itself
    # --- checkpoints and logs: change nothing but disk and speed
    checkpoint_every: int = bounded(500, at_least=1)  # steps
    keep_checkpoints: int = bounded(2, at_least=1)  # the newest ones
    # and, for good, one every so many steps; null keeps no milestones
    keep_every: int | None = bounded(None, at_least=1, why="null keeps no milestones")
    log_every: int = bounded(10, at_least=1)  # steps
    # steps between evaluations on training images: online k-NN, teacher and student
    watch_every: int = bounded(200, at_least=1)

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds("train", self)
        if isinstance(self.interpolate, str) and self.interpolate != AUTO:
            raise ConfigError(
                f"train.interpolate={self.interpolate!r} must be a number in [0, 1] or {AUTO}"
            )

    def watches_after(self, done: int) -> bool:
        """Whether the report after `done` steps is the first at or behind a multiple of
        watch_every.
        """
        return done // self.watch_every > (done - self.log_every) // self.watch_every

    def resolved(self, weights_given: bool) -> "ResolvedTrainConfig":
        """Copy with the preset named and a value for every null that a preset decides.

        Args:
            weights_given: whether training starts from an encoder worth keeping.
        """
        preset = self.preset
        if preset is Preset.auto:
            preset = Preset.gentle if weights_given else Preset.from_scratch
        values: dict[str, Any] = {"lr": self.base_lr, **PRESETS[preset]}
        values |= {key: value for key, value in asdict(self).items() if value is not None}
        values["preset"] = preset
        return ResolvedTrainConfig(**values)


@dataclass
class ResolvedTrainConfig(TrainConfig):
    """A configuration in which every key that a preset decides has a value."""

    # nothing assigns null to a resolved configuration, so the narrower types hold
    lr: float = 0.0  # pyright: ignore[reportIncompatibleVariableOverride]
    weight_decay: float = 0.0  # pyright: ignore[reportIncompatibleVariableOverride]
    layer_decay: float = 1.0  # pyright: ignore[reportIncompatibleVariableOverride]
    freeze_norm: bool = False  # pyright: ignore[reportIncompatibleVariableOverride]
    anchor: float = 0.0  # pyright: ignore[reportIncompatibleVariableOverride]
    interpolate: float | int | str = 1.0  # pyright: ignore[reportIncompatibleVariableOverride]


# What each preset means. `gentle` is for an encoder worth keeping and a small data set: without it
# a few epochs cost a supervised ImageNet MobileNetV2 ten points of linear accuracy on CUB's first
# ten classes.
PRESETS: dict[Preset, dict[str, Any]] = {
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
