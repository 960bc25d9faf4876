"""Several heads, or one head's ablations, over several seeds: the same encoder, budget and augmentation for all."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.finetune import COLUMNS
from evaluation.metrics import paired_test
from evaluation.results import Row, combine, format_table, save_results
from ssl_parts.errors import ConfigError
from ssl_parts.training.checkpoint import write_atomic
from ssl_parts.training.finetune import finetune
from ssl_parts.training.finetune_config import load_finetune


@dataclass(frozen=True)
class Arm:
    """A line of the table."""

    label: str
    overrides: tuple[str, ...]


# What every table compares with: plain fine-tuning.
PLAIN = "linear"
METHODS = {
    "probe": Arm("linear probe", ("head=linear", "train.frozen=true")),
    PLAIN: Arm("plain fine-tuning", ("head=linear",)),
    "tdsa": Arm("TDSA-Loss", ("head=tdsa",)),
    "coarse2fine": Arm("Coarse2Fine", ("head=coarse2fine",)),
    "scrim": Arm("SCRIM", ("head=scrim",)),
    "upm": Arm("UPM", ("head=upm",)),
}
ABLATIONS = {
    "tdsa_no_gating": Arm("TDSA-Loss, no gating", ("head=tdsa", "head.gating=false")),
    "tdsa_no_diversity": Arm("TDSA-Loss, no diversity", ("head=tdsa", "head.diversity=0")),
    "tdsa_no_terms": Arm("TDSA-Loss, cross-entropy only", ("head=tdsa", "head.diversity=0", "head.discriminality=0")),
    "coarse2fine_not_orthogonal": Arm(
        "Coarse2Fine, attention not orthogonal", ("head=coarse2fine", "head.orthogonal=false")
    ),
    "coarse2fine_no_first_stage": Arm("Coarse2Fine, no first stage", ("head=coarse2fine", "head.coarse=0")),
    "scrim_one_module": Arm("SCRIM, one CPL", ("head=scrim", "head.modules=1", "head.regions=4")),
    "scrim_no_ranking": Arm("SCRIM, no ranking", ("head=scrim", "head.ranking=0")),
    "scrim_no_contrast": Arm("SCRIM, no contrast", ("head=scrim", "head.contrast=0")),
    "scrim_shuffled": Arm("SCRIM, shuffled batches", ("head=scrim", "train.order=shuffled")),
    "linear_balanced": Arm("plain fine-tuning, class-balanced batches", ("head=linear", "train.order=class_balanced")),
    "upm_vote": Arm("UPM, weighted vote", ("head=upm", "head.fusion=vote")),
    "upm_separate": Arm("UPM, separate encoders", ("head=upm", "head.streams=separate")),
}
SETS = {"methods": METHODS, "ablations": ABLATIONS}
ARMS = METHODS | ABLATIONS


def choose_arms(names: list[str]) -> dict[str, Arm]:
    """Arms by name, with `methods` and `ablations` standing for all of theirs.

    Raises:
        ConfigError: an unknown name.
    """
    chosen: dict[str, Arm] = {}
    for name in names:
        if name not in SETS and name not in ARMS:
            raise ConfigError(f"--arms {name}: unknown; there are: {', '.join([*SETS, *ARMS])}")
        chosen |= SETS.get(name) or {name: ARMS[name]}
    return chosen


def finetune_table(recipe: str, overrides: list[str], arms: list[str], seeds: list[int]) -> list[Row]:
    """Run (or continue) every arm and seed, then print and write the table.

    Every run is a folder runs/NAME/ARM/seed_S and is skipped when its results.json is there, so the same command can be
    stopped and started at will. An ablation's method, and plain fine-tuning, are worth naming beside it.

    Raises:
        ConfigError: an unknown arm or key; a seed twice.
    """
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {seeds}: each seed once")
    chosen = choose_arms(arms)
    planned = {
        (name, seed): load_finetune(recipe, [*overrides, *arm.overrides, f"run.seed={seed}"])
        for name, arm in chosen.items()
        for seed in seeds
    }  # every mistake is found before the first step
    folder: Path | None = None
    results = {}
    for seed in seeds:  # seed after seed: a table of fewer seeds is there early
        for name in chosen:
            config = planned[name, seed]
            folder = folder or Path(config.run.dir) / config.run.name
            config.run.name = f"{config.run.name}/{name}/seed_{seed}"
            results[name, seed] = finetune(config)
        done = seeds[: seeds.index(seed) + 1]
        rows = write_table(folder, chosen, {key: results[key] for key in results if results[key]}, done)
    return rows


def write_table(folder: Path, arms: dict[str, Arm], results: dict, seeds: list[int]) -> list[Row]:
    """table.md and results.json over these seeds: accuracy, difference to plain fine-tuning, overlap."""
    if not results:
        return []  # only the main process has results
    rows, combined = [], {}
    for name, arm in arms.items():
        row = combine([results[name, seed]["rows"][0] for seed in seeds], seeds)
        combined[name] = row
        rows.append(Row(**{**vars(row), "name": arm.label}))
    lines = [format_table(rows, COLUMNS, notes=False), "", note(rows[0], seeds)]
    lines += differences(arms, results, seeds)
    overlap = {name: mean_overlap([results[name, seed].get("overlap", {}) for seed in seeds]) for name in arms}
    lines += ["", overlap_table(arms, overlap)]
    text = "\n".join(lines)
    write_atomic(folder / "table.md", text + "\n")
    save_results(folder / "results.json", rows, overlap=overlap)
    print(f"\n{text}\n\nResults: {folder / 'results.json'}")
    return rows


def note(row: Row, seeds: list[int]) -> str:
    split = ", ".join(f"{count} {name}" for name, count in row.splits.items() if count)
    train = row.settings["train"]
    return (
        f"{row.protocol} v{row.version} on {row.data} ({split} images, {row.resolution} px {row.fit}), "
        f"{row.encoder['name']}, {train['epochs']} epochs, batch {train['batch']}; selection {row.selection}; "
        f"mean ± sd over seeds {', '.join(map(str, seeds))}."
    )


def differences(arms: dict[str, Arm], results: dict, seeds: list[int]) -> list[str]:
    """Each arm's top-1 minus that of plain fine-tuning, seed by seed, with a paired test."""
    if PLAIN not in arms:
        return []
    plain = [results[PLAIN, seed]["rows"][0].values["top1"].mean for seed in seeds]
    lines = []
    for name, arm in arms.items():
        if name == PLAIN:
            continue
        mine = [results[name, seed]["rows"][0].values["top1"].mean for seed in seeds]
        each = [100 * (a - b) for a, b in zip(mine, plain, strict=True)]
        listed = ", ".join(f"{d:+.1f}" for d in each)
        tested = f"; paired t-test p = {paired_test(mine, plain).p:.2f}" if len(seeds) > 1 else "; one seed: no spread"
        lines.append(f"- {arm.label} against {ARMS[PLAIN].label}: {sum(each) / len(each):+.1f} ({listed}{tested}).")
    return ["", *lines]


def mean_overlap(measured: list[dict]) -> dict[str, dict[str, float]]:
    """Means over seeds of what every seed measured."""
    return {
        name: {key: sum(m[name][key] for m in measured) / len(measured) for key in values}
        for name, values in measured[0].items()
        if all(name in m for m in measured)
    }


def overlap_table(arms: dict[str, Arm], overlap: dict[str, dict]) -> str:
    """Markdown: a line for each arm and each thing it looks with."""
    heads = ["in box", "on part", "mass in box", "IoU", "IoU > 0.5", "parts reached"]
    lines = ["| | looks with | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(heads)]
    for name, arm in arms.items():
        for look, values in overlap[name].items():
            cells = [f"{100 * values[key]:.1f}" if key in values else "–" for key in heads]
            lines.append(f"| {arm.label} | {look} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
