"""Does a run survive SIGKILL anywhere? Real processes, real signals, compared bit for bit with an unbroken run.

    python benchmarks/kill_resume.py                     # 20 kills of a tiny two-round run: about five minutes
    python benchmarks/kill_resume.py --kills 100 --seed 1

The run trains a base and its control, discovers parts and trains twice, evaluates and exports; a checkpoint is written
after every step. It is killed at random times spread over its life after start-up and started again each time with the
same command. A run that ends before all kills are done is compared and the next one begun. CPU, fp32, one thread.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
RECIPE = [
    "data.images=48", "data.test_images=40", "data.size=48", "data.species=4", "encoder.width=0.125",
    "train.batch=8", "train.base_epochs=2", "train.epochs=2", "train.rounds=2", "train.checkpoint_every=1",
    "train.log_every=1", "objective.hidden=16", "objective.projection=8", "parts.size=8", "parts.k=3",
    "parts.foreground.size=8", "parts.batch=4", "evaluation.shots=1", "evaluation.draws=2", "evaluation.part_shots=4",
    "evaluation.part_draws=1", "evaluation.part_grid=8", "run.precision=fp32", "run.threads=1", "run.trackers=[]",
    "run.pictures=false", "run.name=tiny",
]  # fmt: skip
CLOCKS = ("pairs_per_second", "data_wait", "gpu_memory_gb")  # of a logged line: they depend on the machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if survives(Path(folder), given.kills, random.Random(given.seed)) else 1)


def survives(folder: Path, kills: int, times: random.Random) -> bool:
    """Whether every run that was killed ended as the unbroken one did; says where each kill struck."""
    life = life_of(begin(folder / "unbroken"), None)
    expected = outcome(folder / "unbroken" / "tiny")
    print(f"unbroken: {life:.1f} s after start-up, {len(expected)} things to compare", flush=True)
    struck, lives, equal = [], 0, True
    while len(struck) < kills:
        here, lives = folder / f"life_{lives}", lives + 1
        while (delay := times.uniform(0, 2 * life / kills) if len(struck) < kills else None) is not None:
            if life_of(begin(here), delay) < delay:
                break  # it ended before its time
            struck.append(where(here / "tiny", delay))
            print(f"kill {len(struck):3} of {kills}, {delay:.2f} s after start-up: {struck[-1]}", flush=True)
        else:
            life_of(begin(here), None)
        found = outcome(here / "tiny")
        different = [name for name in expected if found.get(name) != expected[name]]
        equal = equal and not different and found.keys() == expected.keys()
        print(f"life {lives} ended: {'bit-equal' if not different else 'DIFFERENT: ' + ', '.join(different)}")
    print(f"{len(struck)} kills in {lives} lives: {'all bit-equal' if equal else 'NOT EQUAL'}")
    print("struck: " + ", ".join(f"{number} {place}" for place, number in sorted(Counter(struck).items())))
    return equal


def begin(folder: Path) -> subprocess.Popen:
    """A process that has said its first line: imports are done and images drawn."""
    command = [sys.executable, "-u", str(REPO / "launch/pretrain.py"), *RECIPE, f"run.dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    with open(folder.with_suffix(".log"), "a") as errors:
        process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    if not process.stdout.readline():
        raise RuntimeError(f"the run did not start: {folder.with_suffix('.log').read_text()[-2000:]}")
    return process


def life_of(process: subprocess.Popen, delay: float | None) -> float:
    """Seconds until it ended; SIGKILL after `delay`, None lets it end."""
    began = time.monotonic()
    try:
        process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"the run failed with code {process.returncode}")
    return time.monotonic() - began if delay is None else 0.0


def where(run: Path, lived: float) -> str:
    """What a killed run was doing, from what it left."""
    if any(time.time() - path.stat().st_mtime < lived for path in run.glob("*/checkpoints/.*.tmp")):
        return "writing a checkpoint"
    if (run / "results.json").exists():
        return "export and report"
    if (run / "round_001" / "encoder.safetensors").exists():
        return "evaluation"
    for number in (1, 0):
        round_folder = run / f"round_00{number}"
        if (round_folder / "checkpoints").exists():
            return f"training, round {number}"
        if round_folder.exists():
            return f"discovery, round {number}"
    if (run / "base" / "encoder.safetensors").exists():
        return "control"
    return "base"


def outcome(run: Path) -> dict[str, object]:
    """Everything that must be equal: weights, part ids, the export, figures and logged losses."""
    patterns = ("*/encoder.safetensors", "*/checkpoints/step_*/*.safetensors", "round_*/parts/*.npy", "export/model.*")
    files = [path for pattern in patterns for path in run.glob(pattern)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = json.loads((run / "results.json").read_text())["rows"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files} | {
        "metrics": [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines],
        "rows": {name: row["values"] for name, row in rows.items()},
    }


if __name__ == "__main__":
    main()
