"""The protocols that end a run, measured by the same code as launch/evaluate.py."""

from evaluation.protocols.bench import Bench
from evaluation.protocols.config import EvaluationConfig
from evaluation.protocols.run import run_protocol
from evaluation.results import Row

NEEDS_MASKS = ("parts",)


def evaluate_encoder(
    bench: Bench,
    config: EvaluationConfig | None = None,
    name: str = "encoder",
    commit: str | None = None,
) -> list[Row]:
    """Measure every protocol of `config.protocols` that the data set has annotations for.

    Args:
        name: of the arm in tables.
        commit: of the code, for the record.

    Raises:
        ConfigError: settings that do not fit the data, such as more shots than images.
        DataError: features that are not finite, a damaged image or mask.
    """
    config = config or EvaluationConfig()
    config.check()
    rows = []
    for chosen in protocols_for(bench, config):
        rows += run_protocol(config.protocol(chosen), bench, name, commit)
    return rows


def protocols_for(bench: Bench, config: EvaluationConfig) -> list[str]:
    """The protocols that the data set has labels or part masks for, in their order."""
    return [
        name
        for name in config.protocols
        if (bench.masked if name in NEEDS_MASKS else bench.labelled)
    ]
