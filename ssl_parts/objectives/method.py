"""What every method is: a network to train, the views that it sees, and a loss over them.

`methods/registry.py` lists the methods by name; a new one is a file in `methods/`, a name in
`config.py` and a row there.

Shapes: B images of this process, V = 2 views per image, N = 2B views, K part ids, hxw grid of ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.objectives.config import ObjectiveConfig
from ssl_parts.objectives.network import (
    Heads,
    InstanceNetwork,
    InstanceOutputs,
    Network,
    Outputs,
    OutputsT,
)
from ssl_parts.views import ViewPlan, Views, ViewsConfig, make_views, plan_views


@dataclass(frozen=True, kw_only=True)
class LossInputs(Generic[OutputsT]):
    """What the loss of one step may read.

    Attributes:
        student: with gradient.
        teacher: without; where the method has no teacher, the student's own outputs.
        initial: the frozen initial encoder's features of the same views; None unless the method
            asks for them (`Method.needs_initial`) or training is anchored (`train.anchor`).
        views: pixels, ids and geometry; None in a loop without geometry.
        rows_B: which training images the views are of, long (B,), on the CPU; None in a loop that
            does not number its images.
        progress: share of the phase done, 0 to 1.
    """

    student: OutputsT
    teacher: OutputsT
    initial: Outputs | None = None
    views: Views | None = None
    rows_B: Tensor | None = None
    progress: float = 0.0


class TrainingImages(Protocol):
    """The images of a phase by row: what a method may look at before and during training."""

    @property
    def k(self) -> int:
        """Number of part ids, 0 in a phase without parts."""
        ...

    @property
    def background(self) -> int | None:
        """The id of what is not object, where there is one."""
        ...

    def __len__(self) -> int: ...

    def images(self, rows_B: Tensor) -> Tensor:
        """Whole images, uint8 (B,3,H,W)."""
        ...

    def ids(self, rows_B: Tensor) -> Tensor | None:
        """Their part ids (B,h,w); None in a phase without parts."""
        ...

    def detailed_images(self, rows_B: Tensor, size: int) -> Tensor:
        """The same squares with size x size pixels, uint8 (B,3,size,size), decoded anew."""
        ...

    def make_once(self, name: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """A vector per image, (R,D) float on the CPU, made once in a phase and kept in its folder.

        Args:
            name: of the file, without its ending.
            make: rows_B to vectors_BD, a function of the images and the initial encoder alone; the
                processes share the rows.
        """
        ...


class Method(nn.Module, ABC, Generic[OutputsT]):
    """A row of METHODS. The base class trains on two views; a method overrides what differs.

    A phase calls, once: `build_network`, `prepare`. Then in each step, in this order: `plan_views`,
    `make_views`, `encode` (teacher, student), `forward`, `adjust_gradients`.

    Buffers (queues, centres) are part of a checkpoint, so a resumed run goes on bit-equal; they
    must be the same on every process. Losses are scaled so that the average over processes is the
    loss of the global batch.

    Attributes:
        has_teacher: whether the targets come from an EMA teacher.
        needs_initial: whether the loss reads `LossInputs.initial`.
    """

    has_teacher: bool = True
    needs_initial: bool = False

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config

    # --- once in a phase

    @abstractmethod
    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[OutputsT]:
        """Build the student.

        Args:
            encoder: what is trained.
            k: number of part ids, 0 in a phase without parts.
            background: the id of what is not object, which is no part unless the method takes it
                for one.
        """

    def prepare(self, network: Network[OutputsT], images: TrainingImages) -> None:
        """Look at the training images before the first step; called again after a resume.

        For what depends on the images and the initial encoder alone, such as a teacher's vector per
        image, which `forward` then takes by `LossInputs.rows_B`. Called on every process, which
        must all end with the same. The base class looks at nothing.
        """

    # --- in each step

    def plan_views(self, n: int, config: ViewsConfig, seed: int, step: int) -> ViewPlan:
        """Draw the random numbers of the global batch's n images, as `ssl_parts.views.plan_views`.

        A method with further views returns a sub-class of ViewPlan with its own `select_rows`.
        """
        return plan_views(n, config, seed, step)

    def make_views(
        self,
        images_BCHW: Tensor,
        ids_Bhw: Tensor | None,
        plan: ViewPlan,
        config: ViewsConfig,
        k: int,
        background: int | None,
    ) -> Views:
        """Make this process's views, as `ssl_parts.views.make_views`.

        A method with further views (local crops, crops without colour for its teacher) returns a
        sub-class of Views that holds them, which its `encode` reads.
        """
        return make_views(images_BCHW, ids_Bhw, plan, config, k, background)

    def encode(self, network: nn.Module, views: Views, *, predict: bool = True) -> OutputsT:
        """Run the student or, without `predict`, the teacher on the views.

        One call of `network` per pass, which may be wrapped in DistributedDataParallel.
        """
        return network(views.images_NCHW, views.ids_Ngg, views.priority_NK, predict=predict)

    @abstractmethod
    def forward(self, inputs: LossInputs[OutputsT]) -> dict[str, Tensor]:
        """Compute the loss and its terms: scalars by name, one of them "loss"."""

    def adjust_gradients(self, network: nn.Module, progress: float) -> None:
        """Change gradients of the (unwrapped) student before the optimiser's step, in place."""


class InstanceMethod(Method[InstanceOutputs]):
    """A method on whole images, whose network is the encoder under one pair of heads."""

    def build_network(
        self, encoder: Encoder, k: int = 0, background: int | None = None
    ) -> Network[InstanceOutputs]:
        return InstanceNetwork(encoder, self.build_heads(encoder.feature_dim))

    @abstractmethod
    def build_heads(self, channels: int) -> Heads:
        """Build projector and predictor of pooled features with so many channels."""


AnyMethod = Method[Any]
