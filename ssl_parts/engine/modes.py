"""Training modes of student and teacher."""

from collections.abc import Sequence

from torch import nn

from ssl_parts.encoders.modes import keep_norm_statistics


def set_train_mode(network: nn.Module, encoders: Sequence[nn.Module], freeze_norm: bool) -> None:
    """Switch to training mode, except for batch norms of the encoders that keep their statistics.

    Args:
        network: what is trained, as accelerate wrapped it or bare.
        encoders: its encoders; their frozen batch norms always keep their statistics.
        freeze_norm: whether all batch norms of the encoders do.
    """
    network.train()
    for encoder in encoders:
        keep_norm_statistics(encoder, frozen_only=not freeze_norm)


def follow_mode(teacher: nn.Module, student: nn.Module) -> None:
    """Give each module of the teacher the mode of the student's module in its place."""
    for mine, theirs in zip(teacher.modules(), student.modules(), strict=True):
        mine.training = theirs.training
