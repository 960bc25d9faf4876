"""A run small enough to be done many times: 24 drawn birds at 48 px, three steps of base, two
rounds of three steps.
"""

import json
from pathlib import Path

CLOCKS = ("pairs_per_second", "images_per_second", "data_wait", "gpu_memory_gb")

OVERRIDES = [
    "data.images=24", "data.test_images=40", "data.size=48", "data.species=4", "encoder.width=0.125",
    "train.batch=8", "train.base_epochs=1", "train.epochs=1", "train.rounds=2", "train.checkpoint_every=1",
    "train.log_every=1", "objective.hidden=16", "objective.projection=8", "parts.size=8", "parts.k=3",
    "parts.foreground.size=8", "parts.batch=8", "evaluation.few_label.shots=[1]", "evaluation.few_label.draws=1",
    "evaluation.parts.shots=[4]", "evaluation.parts.draws=1", "evaluation.parts.grid=8",
    "run.precision=fp32", "run.threads=1", "run.trackers=[]", "run.pictures=false",
]  # fmt: skip


def overrides(folder: Path, *more: str) -> list[str]:
    return [f"run.dir={folder}", "run.name=tiny", *OVERRIDES, *more]


def contents(run: Path) -> dict[str, object]:
    """What must be bit-equal however often a run was killed: weights, part ids, figures, logged
    losses.
    """
    files = [
        *run.glob("*/encoder.safetensors"),
        *run.glob("round_*/parts/*.npy"),
        *run.glob("export/model.safetensors"),
    ]
    found = {str(path.relative_to(run)): path.read_bytes() for path in sorted(files)}
    return found | {"metrics": logged(run)}


def logged(run: Path) -> list[dict]:
    """Lines of metrics.jsonl without what depends on the machine and the moment."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
