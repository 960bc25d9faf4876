"""Several seeds of a recipe side by side: is the gain larger than the spread?"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.metrics import paired_test
from evaluation.results import Measure, format_table, save_results
from evaluation.suite import COLUMNS
from ssl_parts.errors import ConfigError
from ssl_parts.report.published import published_for
from ssl_parts.training.arms import OURS, result_title
from ssl_parts.training.checkpoint import write_atomic
from ssl_parts.training.pretrain import pretrain

if TYPE_CHECKING:
    from ssl_parts.config import Config


def compare(config: "Config", seeds: list[int], arms: list[str] | None = None) -> dict:
    """Run (or continue) the recipe for each seed with its arms, print and write the table over seeds.

    Args:
        arms: names of ARMS beside base and result; None for those of the recipe (run.arms).

    Raises:
        ConfigError: a seed twice, an unknown arm, or a recipe that does not evaluate.
    """
    if len(set(seeds)) < len(seeds) or not config.run.evaluate:
        raise ConfigError(f"--seeds {seeds}: each seed once, and run.evaluate=true")
    folder = Path(config.run.dir) / config.run.name
    config = replace(config, run=replace(config.run, arms=config.run.arms if arms is None else arms, control=True))
    config.run.check()
    runs = {seed: pretrain(of_seed(config, seed)) for seed in seeds}
    runs = {seed: results for seed, results in runs.items() if results}  # other ranks have nothing to say
    if not runs:
        return {}
    rows = over_seeds([results["rows"] for results in runs.values()])
    ours = result_title(config.objective)
    differences = differences_to_ours([results["rows"] for results in runs.values()], ours)
    spread = f"Mean ± sd over seeds {', '.join(map(str, seeds))}."
    table = "\n".join([format_table(rows, COLUMNS), "", spread, *differences, *published_lines(config.data.name)])
    write_atomic(folder / "table.md", table + "\n")
    summary = {
        "seeds": seeds,
        "rows": rows,
        "differences": differences,
        "runs": [str(r["export"]) for r in runs.values()],
    }
    save_results(folder / "results.json", json.loads(json.dumps(summary, default=str)))
    print(f"\n{table}\n\nResults: {folder / 'results.json'}")
    return summary


def of_seed(config: "Config", seed: int) -> "Config":
    run = replace(config.run, name=f"{config.run.name}/seed_{seed}", seed=seed)
    return replace(config, run=run)


def over_seeds(tables: list[dict]) -> dict:
    """Arm → value → Measure over seeds, of each seed's own mean."""
    rows = {}
    for arm, row in tables[0].items():
        values = {key: [table[arm]["values"][key]["mean"] for table in tables] for key in row["values"]}
        rows[arm] = {"values": {key: asdict(Measure.of(v)) for key, v in values.items()}, "note": row["note"]}
    return rows


def differences_to_ours(tables: list[dict], ours: str = OURS) -> list[str]:
    """A sentence for each arm and value: PARTICLE minus it, seed by seed, and whether that is more than chance."""
    lines = []
    for arm in (name for name in tables[0] if name != ours):
        for key in tables[0][ours]["values"]:
            pairs = [[table[name]["values"][key]["mean"] for table in tables] for name in (ours, arm)]
            lines.append(f"{ours} against {arm}, {COLUMNS.get(key, key)}: {describe_difference(*pairs)}.")
    return lines


def published_lines(data: str) -> list[str]:
    """What others report on this data set, with the source; nothing for most sets."""
    rows = published_for(data)
    lines = [f"{row.measure}, {row.model}: {row.percent:.1f} ({row.source})" for row in rows]
    return ["", "Published, with other images, sizes or protocols (see the report):", *lines] if lines else []


def describe_difference(ours: list[float], theirs: list[float]) -> str:
    each = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
    listed = ", ".join(f"{d:+.1f}" for d in each)
    if len(each) < 2:
        return f"{each[0]:+.1f} (one seed: no spread)"
    test = paired_test(ours, theirs)
    return f"{sum(each) / len(each):+.1f} ({listed}; paired t-test p = {test.p:.2f})"
