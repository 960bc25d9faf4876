"""What every objective is: a network to train and a loss over two views. `methods.py` lists them
by name.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig, Targets
from ssl_parts.objectives.network import InstanceNetwork, Outputs

if TYPE_CHECKING:
    from ssl_parts.views import Views


class Method(nn.Module, ABC):
    """A row of METHODS: builds the network that is trained, and turns what it saw into named terms
    with "loss".

    Buffers (queues, centres) are part of a checkpoint, so a resumed run goes on bit-equal; they
    must be the same on every rank. Losses are scaled so that the average over ranks is the loss of
    the global batch.

    Attributes:
        needs_parts: whether images come with part ids.
        has_teacher: whether the targets come from an EMA teacher.
    """

    needs_parts = False
    has_teacher = True

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def network(self, encoder: Encoder, k: int = 0, background: int | None = None) -> nn.Module:
        """The student: a module with `.encoder` that takes (images, ids, priorities, predict=...)
        to `Outputs`.
        """

    @abstractmethod
    def forward(
        self, student: Outputs, teacher: Outputs, views: "Views | None", progress: float
    ) -> dict[str, Tensor]:
        """Named terms with "loss". Without a teacher `teacher` is `student`; progress, 0 to 1, is
        that of the phase.
        """

    def before_update(self, network: nn.Module, progress: float) -> None:
        """Last word on the gradients before the optimiser's step."""


class InstanceMethod(Method):
    """A method on whole images, whose network is the encoder and two heads."""

    def network(self, encoder: Encoder, k: int = 0, background: int | None = None) -> nn.Module:
        return InstanceNetwork(encoder, *self.heads(encoder.feature_dim))

    @abstractmethod
    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        """Projector of pooled features of this width, and predictor."""


def uses_teacher(config: ObjectiveConfig) -> bool:
    return config.targets is Targets.teacher
