"""Several heads, or one head's ablations, over several seeds: the same encoder, budget and
augmentation for all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from evaluation.finetuning.compose import load_finetune
from evaluation.finetuning.train import finetune
from evaluation.heads.overlap import CENTRE
from evaluation.results import Results, Row, combine_seeds, save_results
from evaluation.tables import (
    Difference,
    difference_table,
    format_table,
    headings,
    markdown_table,
    paired_difference,
    statements,
)
from ssl_parts.errors import ConfigError
from ssl_parts.files import write_atomic

# What the methods' rows compare with: plain fine-tuning.
PLAIN = "linear"


@dataclass(frozen=True)
class Arm:
    """A line of the table. An ablation is compared `against` the whole method, a method against
    plain fine-tuning.
    """

    label: str
    overrides: tuple[str, ...]
    against: str = PLAIN


def _ablation(method: str, label: str, *overrides: str) -> Arm:
    return Arm(
        f"{METHODS[method].label}, {label}",
        (*METHODS[method].overrides, *overrides),
        against=method,
    )


METHODS = {
    "probe": Arm("linear probe", ("head=linear", "train.frozen=true")),
    PLAIN: Arm("plain fine-tuning", ("head=linear",)),
    "tdsa": Arm("TDSA-Loss", ("head=tdsa",)),
    "coarse2fine": Arm("Coarse2Fine", ("head=coarse2fine",)),
    "scrim": Arm("SCRIM", ("head=scrim",)),
    "upm": Arm("UPM", ("head=upm",)),
}
ABLATIONS = {
    "linear_balanced": _ablation(PLAIN, "class-balanced batches", "train.order=class_balanced"),
    "tdsa_no_gating": _ablation("tdsa", "no gating", "head.gating=false"),
    "tdsa_no_diversity": _ablation("tdsa", "no diversity", "head.diversity=0"),
    "tdsa_no_terms": _ablation(
        "tdsa", "cross-entropy only", "head.diversity=0", "head.discriminality=0"
    ),
    "coarse2fine_not_orthogonal": _ablation(
        "coarse2fine", "attention not orthogonal", "head.orthogonal=false"
    ),
    "coarse2fine_no_first_stage": _ablation("coarse2fine", "no first stage", "head.coarse=0"),
    # as many regions in all
    "scrim_one_module": _ablation("scrim", "one CPL", "head.modules=1", "head.regions=4"),
    "scrim_no_ranking": _ablation("scrim", "no ranking", "head.ranking=0"),
    "scrim_no_contrast": _ablation("scrim", "no contrast", "head.contrast=0"),
    "scrim_shuffled": _ablation("scrim", "shuffled batches", "train.order=shuffled"),
    "upm_vote": _ablation("upm", "weighted vote", "head.fusion=vote"),
    "upm_separate": _ablation("upm", "separate encoders", "head.streams=separate"),
}
ARMS = METHODS | ABLATIONS
# `ablations` are pairs: each method whole, then without one thing at a time.
PAIRS = {name: ARMS[name] for part, arm in ABLATIONS.items() for name in (arm.against, part)}
SETS = {"methods": METHODS, "ablations": PAIRS}


def choose_arms(names: list[str]) -> dict[str, Arm]:
    """Arms by name; `methods` stands for all of them, `ablations` for every ablation beside its
    whole method.

    Raises:
        ConfigError: an unknown name.
    """
    chosen: dict[str, Arm] = {}
    for name in names:
        if name not in SETS and name not in ARMS:
            raise ConfigError(f"--arms {name}: unknown; there are: {', '.join([*SETS, *ARMS])}")
        chosen |= SETS.get(name) or {name: ARMS[name]}
    return chosen


def finetune_table(
    recipe: str, overrides: list[str], arms: list[str], seeds: list[int]
) -> list[Row]:
    """Run (or continue) every arm and seed, then print and write the table.

    Every run is a folder runs/NAME/ARM/seed_S and is skipped when its results.json is there, so
    the same command can be stopped and started at will. An ablation that is named alone has
    nothing to be compared with.

    Raises:
        ConfigError: an unknown arm or key; no seed, or a seed twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {seeds}: each seed once")
    chosen = choose_arms(arms)
    planned = {
        (name, seed): load_finetune(recipe, [*overrides, *arm.overrides, f"run.seed={seed}"])
        for name, arm in chosen.items()
        for seed in seeds
    }  # every mistake is found before the first step
    folder = next(iter(planned.values())).run.folder
    results: dict[tuple[str, int], Results] = {}
    rows: list[Row] = []
    for seed in seeds:  # seed after seed: a table of fewer seeds is there early
        for name in chosen:
            config = planned[name, seed]
            config.run.name = f"{config.run.name}/{name}/seed_{seed}"
            found = finetune(config)
            if found is not None:
                results[name, seed] = found
        rows = write_table(folder, chosen, results, seeds[: seeds.index(seed) + 1])
    return rows


def write_table(
    folder: Path, arms: dict[str, Arm], results: dict[tuple[str, int], Results], seeds: list[int]
) -> list[Row]:
    """Write table.md and results.json over these seeds: accuracy, differences (see `Arm.against`),
    overlap.
    """
    if not results:
        return []  # only the main process has results
    tables = {seed: rows_of_seed(arms, results, seed) for seed in seeds}
    rows, columns = combine_seeds(tables), headings(tables[seeds[0]])
    gains = differences(arms, list(tables.values()))
    overlap = {
        name: mean_overlap([results[name, seed].extra.get("overlap", {}) for seed in seeds])
        for name in arms
    }
    paragraphs = [
        format_table(rows, columns, notes=False),
        note(rows[0], seeds),
        *([difference_table(gains, columns)] if gains else []),
        *statements(gains, columns),
        overlap_table(arms, overlap),
    ]
    text = "\n\n".join(paragraphs)
    write_atomic(folder / "table.md", text + "\n")
    save_results(
        folder / "results.json",
        "heads",
        rows,
        seeds=seeds,
        differences=[{"arm": g.arm, "against": g.against, "tests": g.as_json()} for g in gains],
        overlap=overlap,
    )
    print(f"\n{text}\n\nResults: {folder / 'results.json'}")
    return rows


def rows_of_seed(
    arms: dict[str, Arm], results: dict[tuple[str, int], Results], seed: int
) -> list[Row]:
    """The rows of all arms for one seed, named as the table names the arms."""
    return [
        replace(row, name=arm.label)
        for name, arm in arms.items()
        for row in results[name, seed].rows
    ]


def note(row: Row, seeds: list[int]) -> str:
    """What the table's numbers are, in one sentence."""
    split = ", ".join(f"{count} {name}" for name, count in row.splits.items() if count)
    train = row.settings["train"]
    return (
        f"{row.protocol} v{row.version} on {row.data} ({split} images, {row.resolution} px "
        f"{row.fit}), {row.encoder['name']}, {train['epochs']} epochs, batch {train['batch']}; "
        f"selection {row.selection}; mean ± sd over seeds {', '.join(map(str, seeds))}."
    )


def differences(arms: dict[str, Arm], tables: Sequence[Sequence[Row]]) -> list[Difference]:
    """Each arm compared with the arm of `Arm.against`, where that is in the table too."""
    return [
        paired_difference(tables, arm.label, ARMS[arm.against].label)
        for name, arm in arms.items()
        if name != arm.against and arm.against in arms
    ]


def mean_overlap(measured: list[dict]) -> dict[str, dict[str, float]]:
    """Means over seeds of what every seed measured."""
    return {
        name: {key: sum(m[name][key] for m in measured) / len(measured) for key in values}
        for name, values in measured[0].items()
        if all(name in m for m in measured)
    }


def overlap_table(arms: dict[str, Arm], overlap: dict[str, dict]) -> str:
    """Markdown: one line per arm and map or kind of region, channels as their mean; the image's
    centre once for all.
    """
    heads = ["in box", "on part", "mass in box", "IoU", "IoU > 0.5", "parts reached"]
    lines = []
    for number, (name, arm) in enumerate(arms.items()):
        for place, values in mean_of_channels(overlap[name]).items():
            if place == CENTRE and number:
                continue
            cells = [f"{100 * values[key]:.1f}" if key in values else "–" for key in heads]
            lines.append([f"{'any' if place == CENTRE else arm.label}, {place}", *cells])
    return markdown_table(["evidence", *heads], lines)


def mean_of_channels(overlap: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Join "mid channel 0", "mid channel 1", ... into "mid channels", with what is known of them
    together.
    """
    groups: dict[str, list[dict[str, float]]] = {}
    for name, values in overlap.items():
        groups.setdefault(re.sub(r" channel \d+$", " channels", name), []).append(values)
    return {
        name: {
            key: mean(v[key] for v in each if key in v)
            for key in dict.fromkeys(k for v in each for k in v)
        }
        for name, each in groups.items()
    }
