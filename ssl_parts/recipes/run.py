"""A run of the main job: pretraining, and what is measured when it ends."""

from dataclasses import dataclass

from ssl_parts.pretraining.run import Run
from ssl_parts.recipes.schemas import Config


@dataclass(frozen=True)
class MeasuredRun(Run):
    """A `Run` whose configuration also says what is measured."""

    config: Config
