"""Several seeds of a recipe side by side: is the gain larger than the spread? The table is written
in compare_table.
"""

from dataclasses import asdict, replace
from pathlib import Path

from evaluation.metrics import PairedTest, paired_test
from evaluation.results import Measure, save_results
from evaluation.suite import COLUMNS
from ssl_parts.comparison.seeds import run_seeds
from ssl_parts.comparison.table import as_markdown
from ssl_parts.errors import ConfigError
from ssl_parts.files import write_atomic
from ssl_parts.pretraining.arms import OURS, result_title
from ssl_parts.recipes.schemas import Config
from ssl_parts.report.figures import measures_picture
from ssl_parts.report.published import published_for


def compare(config: Config, seeds: list[int], arms: list[str] | None = None, jobs: int = 1) -> dict:
    """Run (or continue) the recipe for each seed with its arms; table.md, table.png and
    results.json over seeds.

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
    runs = run_seeds(config, seeds, jobs)
    # other ranks have nothing to say
    runs = {seed: results for seed, results in runs.items() if results}
    if not runs:
        return {}
    tables, ours = [results["rows"] for results in runs.values()], result_title(config.objective)
    rows, tests = over_seeds(tables), paired_tests(tables, ours)
    table = as_markdown(rows, tests, seeds, ours, config.data.name)
    write_atomic(folder / "table.md", table + "\n")
    measures_picture(rows, COLUMNS, folder / "table.png")
    summary = {
        "seeds": seeds,
        "rows": rows,
        "differences": {
            arm: {key: described(test) for key, test in line.items()} for arm, line in tests.items()
        },
        "published": [asdict(row) for row in published_for(config.data.name)],
        "runs": [str(results["export"]) for results in runs.values()],
    }
    save_results(folder / "results.json", summary)
    print(f"\n{table}\n\nPicture: {folder / 'table.png'}\nResults: {folder / 'results.json'}")
    return summary


def over_seeds(tables: list[dict]) -> dict:
    """Arm → value → Measure over seeds, of each seed's own mean."""
    rows = {}
    for arm, row in tables[0].items():
        values = {
            key: [table[arm]["values"][key]["mean"] for table in tables] for key in row["values"]
        }
        rows[arm] = {
            "values": {key: asdict(Measure.of(v)) for key, v in values.items()},
            "note": row["note"],
        }
    return rows


def paired_tests(tables: list[dict], ours: str = OURS) -> dict[str, dict[str, PairedTest]]:
    """Arm → value → the test of `ours` minus that arm, seed by seed."""
    seen = {arm: {key: [t[arm]["values"][key]["mean"] for t in tables] for key in tables[0][ours]["values"]}
            for arm in tables[0]}  # fmt: skip
    return {
        arm: {key: paired_test(theirs, seen[ours][key]) for key, theirs in values.items()}
        for arm, values in seen.items()
        if arm != ours
    }


def described(test: PairedTest) -> dict:
    return asdict(test) | {"larger_than_spread": test.beyond_spread if test.n > 1 else None}
