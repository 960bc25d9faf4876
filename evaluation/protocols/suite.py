"""The protocols that end a run, measured by the same code as launch/evaluate.py."""

from collections.abc import Sequence

from evaluation.protocols.bench import Bench
from evaluation.protocols.config import EvaluationConfig
from evaluation.protocols.plan import Plan, Planned, plan_protocols, restrict
from evaluation.protocols.run import plain_settings, run_protocol
from evaluation.results import Row


def evaluate_encoder(
    bench: Bench,
    config: EvaluationConfig | None = None,
    name: str = "encoder",
    commit: str | None = None,
    known: Sequence[Row] = (),
) -> list[Row]:
    """Measure every protocol of `config.protocols` that the data set has annotations for.

    Args:
        name: of the arm in tables.
        commit: of the code, for the record.
        known: rows of this encoder and these images that need not be measured again, where their
            settings are those asked for.

    Raises:
        DataError: features that are not finite, a damaged image or mask.
    """
    config = config or EvaluationConfig()
    config.check()
    return evaluate_plan(
        bench, plan_protocols(config, bench.train, bench.test), name, commit, known
    )


def evaluate_plan(
    bench: Bench, plan: Plan, name: str, commit: str | None = None, known: Sequence[Row] = ()
) -> list[Row]:
    """As `evaluate_encoder`, for a plan that is made already."""
    rows: list[Row] = []
    for planned in plan.planned:
        found = [row for row in known if is_of(row, planned)]
        rows += found or run_protocol(planned.protocol, restrict(bench, planned), name, commit)
    return rows


def is_of(row: Row, planned: Planned) -> bool:
    """Whether a row was measured by this protocol with these settings."""
    return row.measured_with(planned.protocol.id, plain_settings(planned.protocol))


def missing(plan: Plan, known: Sequence[Row]) -> list[Planned]:
    """The planned protocols of which there is no row yet."""
    return [p for p in plan.planned if not any(is_of(row, p) for row in known)]
