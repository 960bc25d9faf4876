"""Open the encoder that a run, a checkpoint or an export holds: its network, its weights, its
input.
"""

from pathlib import Path

from ssl_parts.encoders.build import architecture_args, build_encoder
from ssl_parts.encoders.completion import check_network, described_network
from ssl_parts.encoders.config import EncoderConfig
from ssl_parts.encoders.constructor import count_numbers, create_skeleton
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.sources import Located, locate
from ssl_parts.errors import ConfigError, WeightsError

# numbers that a network may have beyond the bytes of its weights: a tiny VGG's classifier
SPARE = 2**24


def open_encoder(source: str | Path, which: str = "best") -> Encoder:
    """The encoder kept in a run directory, a round, a checkpoint or an export: its architecture
    and its weights.

    Args:
        source: a folder, or a file inside a run or an export.
        which: "best", "student" or "teacher"; see `locate`.

    Raises:
        WeightsError: nothing there, weights that do not fit or are not as they were written,
            settings that are no network's, or a bare file that does not say its architecture.
    """
    located = locate(Path(source), which)
    config = described_network(located)
    if config is None:
        raise WeightsError(
            f"{source} does not say which network it belongs to; use build_encoder(NAME, {str(source)!r}), "
            "or give a run directory or an export"
        )
    try:
        return _build(config, located)
    except ConfigError as error:  # settings that the folder brings, not the user
        raise WeightsError(f"the settings beside {located.weights} do not work: {error}") from error


def _build(config: EncoderConfig, located: Located) -> Encoder:
    check_network(config)
    name, args = str(config.name), config.arguments()
    options = {"small": config.small, "width": config.width, "last_stage": config.last_stage}
    numbers = count_numbers(create_skeleton(name, architecture_args(name, dict(args), **options)))
    if numbers > located.weights.stat().st_size + SPARE:
        raise ConfigError(
            f"they describe a network of {numbers} numbers, more than the weights have bytes"
        )
    return build_encoder(
        name,
        located.weights,
        mean=config.mean,
        std=config.std,
        **options,
        **args,
    )
