"""Which maps are read where none are named."""

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.parts.dense.config import DenseConfig

# Names of maps that are no stages of an encoder: pixels, descriptors from inside a ViT's block, and
# what that block's CLS token attends to.
COLOUR, FACET, ATTENTION = "colour", "facet", "attention"


def point_stages(encoder: Encoder | None, config: DenseConfig, with_last: bool) -> tuple[str, ...]:
    """Maps of the points to cluster: the configured ones, or the default.

    The default is the deepest map of a CNN that still resolves parts, and the last one beside it
    where asked; of a ViT, the last block's. Finer maps (PARTICLE, arXiv 2309.13822, takes all
    but the last) cluster edges and colours: worse on birds and cars (benchmarks/README.md).

    Args:
        with_last: the last map too, as clustering of single images wants it.

    Raises:
        ConfigError: features of an encoder without one, or a stage that it does not have.
    """
    if config.features == "colour":
        return (COLOUR,)
    if encoder is None:
        raise ConfigError("parts.features=encoder needs an encoder; use parts.features=colour")
    if config.stages:
        return encoder.check_stages(config.stages)
    if config.inside_block:
        return (FACET,)
    if len(encoder.stages) == 1 or has_blocks(encoder):
        return (encoder.last_stage,)
    fine = part_stage(encoder)
    return (fine, encoder.last_stage) if with_last else (fine,)


def part_stage(encoder: Encoder) -> str:
    """The deepest stage of a CNN before the last with a stride of at most 16, or the one before the
    last.

    Stride 16 at 224 px is 14 x 14 cells: on birds such a map alone names keypoints better than any
    set of maps (benchmarks/README.md).
    """
    fine = [stage for stage in encoder.stages[:-1] if encoder.strides[stage] <= 16]
    return fine[-1] if fine else encoder.stages[-2]


def decision_stages(
    encoder: Encoder | None, stages: list[str], dense: DenseConfig
) -> tuple[str, ...]:
    """Maps on which foreground is decided: those named, or the last two of a CNN, or the last of a
    ViT; colour without an encoder.

    Raises:
        ConfigError: a stage that the encoder does not have.
    """
    if encoder is None:
        return (COLOUR,)
    if stages:
        return encoder.check_stages(stages)
    if dense.inside_block:
        return (FACET,)
    if has_blocks(encoder):
        return (encoder.last_stage,)
    last = encoder.last_stage
    finer = [s for s in encoder.stages[:-1] if encoder.strides[s] < encoder.strides[last]]
    return (*finer[-1:], last) if finer else tuple(encoder.stages[-2:])


def has_blocks(encoder: Encoder) -> bool:
    """Whether the encoder is a transformer, whose maps all have the same stride."""
    return encoder.stages[0].startswith("block")
