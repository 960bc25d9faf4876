"""Several seeds of a recipe side by side: is the gain larger than the spread? The text of the table
is made in `comparison.table`.
"""

from dataclasses import asdict, replace
from pathlib import Path

from evaluation.results import Results, Row, combine_seeds, save_results
from evaluation.tables import Difference, headings, paired_difference, values_by_arm
from ssl_parts.comparison.seeds import run_seeds
from ssl_parts.comparison.table import as_markdown, published_paragraphs
from ssl_parts.errors import ConfigError
from ssl_parts.files import write_atomic
from ssl_parts.pretraining.arms import OURS, result_title
from ssl_parts.recipes.schemas import Config
from ssl_parts.report.figures import measures_picture
from ssl_parts.report.published import published_for


def compare(
    config: Config, seeds: list[int], arms: list[str] | None = None, jobs: int = 1
) -> Results | None:
    """Run (or continue) the recipe for each seed with its arms; write table.md, table.png and
    results.json over seeds.

    Returns:
        what results.json holds; None beside the main process.

    Args:
        arms: names of ARMS beside base and result; None for those of the recipe (run.arms).
        jobs: seeds that run at once, see `run_seeds`.

    Raises:
        ConfigError: a seed twice, an unknown arm, or a recipe that does not evaluate.
    """
    if len(set(seeds)) < len(seeds) or not config.run.evaluate:
        raise ConfigError(f"--seeds {seeds}: each seed once, and run.evaluate=true")
    folder = Path(config.run.dir) / config.run.name
    config = replace(
        config,
        run=replace(config.run, arms=config.run.arms if arms is None else arms, control=True),
    )
    config.run.check()
    # other ranks have nothing to say
    runs = {s: found for s, found in run_seeds(config, seeds, jobs).items() if found is not None}
    if not runs:
        return None
    ours, data = result_title(config.objective), config.data.display_name
    tables = {seed: results.rows for seed, results in runs.items()}
    rows, gains = combine_seeds(tables), gains_of(list(tables.values()), ours)
    published = published_for(config.data.name)
    table = as_markdown(rows, gains, seeds, ours, published_paragraphs(published, data))
    write_atomic(folder / "table.md", table + "\n")
    measures_picture(values_by_arm(rows), headings(rows), folder / "table.png")
    results = save_results(
        folder / "results.json",
        "compare",
        rows,
        seeds=seeds,
        differences=[{"arm": g.arm, "against": g.against, "tests": g.as_json()} for g in gains],
        published=[asdict(row) for row in published],
        runs=[str(found.extra["export"]) for found in runs.values()],
    )
    print(f"\n{table}\n\nPicture: {folder / 'table.png'}\nResults: {folder / 'results.json'}")
    return results


def gains_of(tables: list[list[Row]], ours: str = OURS) -> list[Difference]:
    """The differences of `ours` to every other arm, seed by seed."""
    arms = dict.fromkeys(row.name for row in tables[0])
    if ours not in arms:
        return []
    return [paired_difference(tables, ours, arm) for arm in arms if arm != ours]
