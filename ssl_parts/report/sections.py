"""Each section of the report of one run, from its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evaluation.tables import describe, format_measure, headings, scale_of
from ssl_parts.errors import ConfigError
from ssl_parts.report.content import Cell, Chart, Folded, Line, Picture, Section, Table, plain_table
from ssl_parts.report.figures import Curve, line_chart, measure_chart
from ssl_parts.report.health import findings
from ssl_parts.report.images import data_uris
from ssl_parts.report.published import PROTOCOL, published_for
from ssl_parts.report.recipe import differences_from_recipe, shown
from ssl_parts.report.run_files import RunFiles

WATCHED = {
    "feature_std": "Spread of the features: about 1 is spread out, 0 is collapsed.",
    "rank_me": "Effective rank of the features of a batch (RankMe): how many directions are in use.",
    "shared_parts": "Parts that both views of an image show; without any, a pair teaches nothing.",
}
NOT_A_LOSS = {"phase", "step", "lr", *WATCHED}
PART_COLUMNS = {
    "parts_an_image": ("parts an image", "{:.1f}"),
    "used": ("ids used", "{:.0f}"),
    "usage_entropy": ("usage entropy (1: all alike)", "{:.2f}"),
    "foreground_share": ("foreground", "{:.0%}"),
    "smallest_part": ("smallest part of the object", "{:.0%}"),
    "empty": ("images without parts", "{:.0f}"),
    "nmi_before": ("NMI to the round before", "{:.2f}"),
}
# of all pictures as they stand in the file; the rest is figures and text
PICTURE_BYTES = 1_900_000


def results_section(run: RunFiles) -> Section:
    """Arms by measures, each with its difference to the base, and a figure per measure with all
    repetitions.
    """
    columns = headings(run.rows)
    if not columns:
        return Section("results", "Results", gaps=[_why_no_results(run)])
    notes = list(dict.fromkeys(describe(row) for row in run.rows))
    charts = [_measure_chart(run, key, title) for key, title in columns.items()]
    caption = "Percent; mean ± deviation over draws. Below: difference to the base encoder."
    lines = [Line(arm_cells(run, name, list(columns)), name == run.ours) for name in run.arms]
    table = Table(["encoder", *columns.values()], lines, caption)
    return Section(
        "results", "Results", notes, tables=[table], charts=charts, gaps=_missing_arms(run)
    )


def _why_no_results(run: RunFiles) -> str:
    if run.config.get("run", {}).get("evaluate") is False:
        return "Not evaluated: run.evaluate=false. launch/evaluate.py measures a finished run."
    if not run.sections:
        return (
            "No results yet: the run has not come to its evaluation. The same command continues it."
        )
    return "Nothing was measured: the data set has neither classes nor part masks, or every protocol was switched off."


def arm_cells(run: RunFiles, name: str, keys: list[str]) -> list[Cell]:
    """An arm's name and measures; the small print is the difference to the run's base."""
    values, base = run.arms[name], run.arms.get("base", {})
    cells = [Cell(name)]
    for key in keys:
        small = ""
        if key in values and key in base and name != "base":
            gain = values[key].mean - base[key].mean
            small = f"{scale_of(values[key].unit) * gain:+.1f}"
        cells.append(Cell(format_measure(values.get(key)), small))
    return cells


def _measure_chart(run: RunFiles, key: str, title: str) -> Chart:
    arms = {name: values[key] for name, values in run.arms.items() if key in values}
    interval = any(measure.interval for measure in arms.values())
    band = "95 % interval over test images" if interval else "± one deviation"
    return Chart(
        title,
        measure_chart(arms, f"{title} of {', '.join(arms)}"),
        f"Bar: mean. Dots: repetitions. Band: {band}.",
    )


def _missing_arms(run: RunFiles) -> list[str]:
    gaps = []
    if "base" not in run.arms:
        gaps.append("The base encoder is not in the table, so gains cannot be shown.")
    if run.config.get("run", {}).get("control") is False:
        gaps.append(
            "No control was trained (run.control=false): part of a gain may come from more training alone."
        )
    if run.ours not in run.arms:
        gaps.append("The result of the last round is not evaluated yet.")
    return gaps


def published_section(run: RunFiles) -> Section:
    """What others report on this data set, with the source and what differs in their protocol."""
    rows = published_for(run.data_name)
    if not rows:
        text = f"No published number of these protocols belongs to the data set {run.data_name or 'of this run'}."
        return Section("published", "Published numbers", gaps=[text])
    ours = {"linear": "linear.accuracy", "part mIoU": "parts.miou_with_background@"}
    lines = [[row.measure, row.model, f"{row.percent:.1f}", row.source] for row in rows]
    for measure in dict.fromkeys(row.measure for row in rows):
        for arm, values in run.arms.items():
            for value in (v for key, v in values.items() if key.startswith(ours[measure])):
                lines.append([measure, f"this run: {arm}", format_measure(value), "results above"])
    texts = [PROTOCOL[measure] for measure in dict.fromkeys(row.measure for row in rows)]
    table = plain_table(["measure", "model", "percent", "source"], lines, text=(0, 1, 3))
    return Section("published", "Published numbers", [*texts, _own_size(run)], tables=[table])


def _own_size(run: RunFiles) -> str:
    size, fit = (run.config.get("data", {}).get(key) for key in ("size", "fit"))
    return f"This run: images of {size} px ({fit}). Numbers compare only where images, size and protocol are the same."


def curves_section(run: RunFiles) -> Section:
    """The loss and its terms of each phase."""
    phases = run.phases()
    charts = []
    for name, rows in phases.items():
        terms = list(
            dict.fromkeys(key for row in rows for key, value in row.items() if _is_term(key, value))
        )
        curves = {term: curve_of(rows, term) for term in terms}
        if len(curves) == 2 and len(set(map(str, curves.values()))) == 1:
            curves.popitem()  # a loss of one term is that term
        if curves:
            charts.append(
                Chart(
                    name,
                    line_chart(curves, f"losses of {name} by step"),
                    f"{_last_step(rows)} steps.",
                )
            )
    rates = {
        name: curve_of(rows, "lr")
        for name, rows in phases.items()
        if any("lr" in row for row in rows)
    }
    if rates:
        charts.append(Chart("learning rate", line_chart(rates, "learning rate by step")))
    gaps = [] if charts else ["No training step was logged yet."]
    return Section("curves", "Training curves", charts=charts, gaps=gaps)


def _last_step(rows: list[dict[str, Any]]) -> int:
    return max(row["step"] for row in rows)


def monitors_section(run: RunFiles) -> Section:
    """What tells a healthy run from a sick one, over steps and over rounds."""
    phases, rounds = run.phases(), run.part_rounds()
    charts = []
    for key, text in WATCHED.items():
        curves = {
            name: curve_of(rows, key)
            for name, rows in phases.items()
            if any(key in row for row in rows)
        }
        if curves:
            charts.append(Chart(key, line_chart(curves, f"{key} by step"), text))
    tables = [_parts_table(rounds)] if rounds else []
    gaps = [] if rounds else ["No parts were discovered yet, or their statistics were not logged."]
    texts = (
        ["Marks follow rules of thumb; the curves and pictures decide."] if phases or rounds else []
    )
    return Section(
        "monitors",
        "Monitors",
        texts,
        findings(phases, rounds, run.sections.get("warnings") or []),
        tables,
        charts,
        gaps=gaps,
    )


def _parts_table(rounds: Mapping[int, Mapping[str, Any]]) -> Table:
    keys = [key for key in PART_COLUMNS if any(key in statistics for statistics in rounds.values())]
    lines = []
    for number, statistics in rounds.items():
        cells = [
            PART_COLUMNS[key][1].format(statistics[key]) if key in statistics else "–"
            for key in keys
        ]
        lines.append([f"round {number}", *cells])
    return plain_table(
        ["parts of", *(PART_COLUMNS[key][0] for key in keys)],
        lines,
        "The discovered parts, round by round.",
    )


def parts_section(run: RunFiles) -> Section:
    """parts.png of every round."""
    paths = run.part_pictures()
    uris = data_uris(list(paths.values()), PICTURE_BYTES // 2)
    pictures = [
        picture_of(f"Round {number}", uris[path], wide=True) for number, path in paths.items()
    ]
    texts = [
        "Each photograph beside its parts: one colour an id, background untouched; the same images in every round."
    ]
    if pictures and run.config.get("parts", {}).get("method") == "per_image":
        texts.append(
            "Found in each image by itself (parts=per_image): a colour means nothing in another image."
        )
    gaps = (
        []
        if pictures
        else ["No picture of parts yet: they are drawn when the first discovery has finished."]
    )
    return Section(
        "parts", "Parts, round by round", texts if pictures else [], pictures=pictures, gaps=gaps
    )


def picture_of(
    title: str, found: tuple[str, int, int] | str, text: str = "", wide: bool = False
) -> Picture:
    if isinstance(found, str):
        return Picture(title, text, wide=wide, gap=found)
    return Picture(title, text, *found, wide=wide)


def setup_section(run: RunFiles) -> Section:
    """The recipe and what was changed, the machine, and the whole configuration behind a click."""
    tables, texts, gaps, folded = [], [], list(run.gaps), []
    if run.config:
        try:
            recipe, differing = differences_from_recipe(run.config)
            texts.append(
                f"Closest recipe: configs/pretrain/{recipe}.yaml. {_how_many(len(differing))}"
            )
            if differing:
                heads = ["key", "recipe", "this run"]
                tables.append(plain_table(heads, [list(row) for row in differing], text=(0, 1, 2)))
        except ConfigError as error:
            gaps.append(f"Differences from a recipe cannot be shown: {error}")
        folded.append(
            Folded("The whole configuration", yaml.safe_dump(run.config, sort_keys=False))
        )
    if run.environment:
        packages = run.environment.get("packages", {})
        rows = [
            [key, _listed(value)] for key, value in run.environment.items() if key != "packages"
        ]
        rows += [[name, version] for name, version in packages.items()]
        folded.append(
            Folded("Environment", table=plain_table(["what", "value"], rows, text=(0, 1)))
        )
    return Section("setup", "What was run", texts, tables=tables, gaps=gaps, folded=folded)


def _how_many(count: int) -> str:
    return {0: "Nothing was changed.", 1: "One key differs:"}.get(count, f"{count} keys differ:")


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return shown(value)


def lead_of(run: RunFiles) -> list[str]:
    """The run in two sentences."""
    config = run.config
    data, encoder, train = (config.get(room, {}) for room in ("data", "encoder", "train"))
    lines = []
    if config:
        start = (
            f"weights {Path(str(encoder['weights'])).name}"
            if encoder.get("weights")
            else "random weights"
        )
        rounds = train.get("rounds", 0)
        rounds = (
            f"{rounds} round{'s' if rounds != 1 else ''} of part discovery and "
            f"{train.get('epochs')} epochs of training"
        )
        what = f"{encoder.get('name')} ({start}) on {data.get('title') or data.get('name')} at {data.get('size')} px"
        lines.append(f"{what}: {rounds}, seed {config.get('run', {}).get('seed')}.")
    seconds, commit = (
        run.sections.get("seconds"),
        run.sections.get("commit") or run.environment.get("commit"),
    )
    state = (
        f"Finished; the last start took {_duration(seconds)}."
        if seconds is not None
        else "Not finished yet."
    )
    return [*lines, state + (f" Code at commit {commit}." if commit else "")]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _is_term(key: str, value: Any) -> bool:
    return key not in NOT_A_LOSS and isinstance(value, int | float) and not isinstance(value, bool)


def curve_of(rows: list[dict[str, Any]], key: str) -> Curve:
    known = [row for row in rows if isinstance(row.get(key), int | float)]
    return [row["step"] for row in known], [row[key] for row in known]
