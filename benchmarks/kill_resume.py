"""Does a run survive SIGKILL anywhere? Real processes, real signals, compared bit for bit with an
unbroken run.

    python benchmarks/kill_resume.py                     # 20 kills of a tiny two-round run: about five minutes
    python benchmarks/kill_resume.py --kills 100 --seed 1

Each start is a process of its own, forked from this one so that libraries need not be read from
disk each time. The run trains a base and its control, discovers parts and trains twice, evaluates
and exports; a checkpoint is written after every step. It is killed at random times spread over its
life after start-up and started again each time with the same command. A run that ends before all
kills are done is compared and the next one begun. CPU, fp32, one thread.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.recipes.load import load_recipe

RECIPE = [
    "data.images=48", "data.test_images=40", "data.size=48", "data.species=4", "encoder.width=0.125",
    "train.batch=8", "train.base_epochs=2", "train.epochs=2", "train.rounds=2", "train.checkpoint_every=1",
    "train.log_every=1", "objective.hidden=16", "objective.projection=8", "parts.size=8", "parts.k=3",
    "parts.foreground.size=8", "parts.batch=4", "evaluation.few_label.shots=[1]", "evaluation.few_label.draws=2",
    "evaluation.parts.shots=[4]",
    "evaluation.parts.draws=1", "evaluation.parts.grid=8", "run.precision=fp32", "run.threads=1", "run.trackers=[]",
    "run.pictures=false", "run.name=tiny",
]  # fmt: skip
LAST = "export and report"
# of a logged line: they depend on the machine
CLOCKS = ("pairs_per_second", "data_wait", "gpu_memory_gb")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if survives(Path(folder), given.kills, random.Random(given.seed)) else 1)


def survives(folder: Path, kills: int, times: random.Random) -> bool:
    """Whether every run that was killed ended as the unbroken one did; says where each kill
    struck.
    """
    unbroken = Life.begin(folder / "unbroken")
    unbroken.ended()
    life, expected = unbroken.seconds(), outcome(folder / "unbroken" / "tiny")
    print(f"unbroken: {life:.1f} s after start-up, {len(expected)} things to compare", flush=True)
    struck, lives, equal = [], 0, True
    while len(struck) < kills:
        here, lives, here_struck = folder / f"life_{lives}", lives + 1, []
        while True:
            # a long last stage is not all there is
            enough = len(struck) == kills or here_struck[-2:] == [LAST, LAST]
            delay = None if enough else times.uniform(0, 2 * life / kills)
            process = Life.begin(here)
            if process.ended(delay):
                break
            process.kill()
            assert delay is not None, "without a delay the process is waited for"
            here_struck.append(where(here / "tiny", delay))
            struck.append(here_struck[-1])
            print(
                f"kill {len(struck):3} of {kills}, {delay:.2f} s after start-up: {struck[-1]}",
                flush=True,
            )
        found = outcome(here / "tiny")
        different = sorted(
            name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)
        )
        equal = equal and not different
        print(
            f"life {lives} ended: {'bit-equal' if not different else 'DIFFERENT: ' + ', '.join(different)}"
        )
    print(f"{len(struck)} kills in {lives} lives: {'all bit-equal' if equal else 'NOT EQUAL'}")
    print(
        "struck: "
        + ", ".join(f"{number} {place}" for place, number in sorted(Counter(struck).items()))
    )
    return equal


@dataclass
class Life:
    """A process that runs the recipe; it has said its first line, so images are drawn and the
    encoder is built.
    """

    pid: int
    began: float
    status: int | None = None

    @classmethod
    def begin(cls, folder: Path) -> "Life":
        sys.stdout.flush()
        hear, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            live(folder, say)
        os.close(say)
        if not os.fdopen(hear, closefd=False).readline():
            raise RuntimeError(
                f"the run did not start: {folder.with_suffix('.log').read_text()[-2000:]}"
            )
        return cls(pid, time.monotonic())

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def ended(self, within: float | None = None) -> bool:
        """Whether it came to its end by itself within so many seconds after its first line; None
        waits.
        """
        while within is None or self.seconds() < within:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if status:
                    raise RuntimeError(f"the run failed with status {status}")
                return True
            time.sleep(0.002)
        return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def live(folder: Path, say: int) -> None:
    """The child: output to the pipe, errors to a log, and no way back."""
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(say, 1)
    os.dup2(log, 2)
    status = 1
    try:
        pretrain(load_recipe("quickstart", [*RECIPE, f"run.dir={folder}"]))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def where(run: Path, lived: float) -> str:
    """What a killed run was doing, from what it left."""
    if any(time.time() - path.stat().st_mtime < lived for path in run.glob("*/checkpoints/.*.tmp")):
        return "writing a checkpoint"
    if (run / "results.json").exists():
        return LAST
    if (run / "control" / "encoder.safetensors").exists():
        return "evaluation"
    if (run / "round_001" / "encoder.safetensors").exists():
        return "control"
    for number in (1, 0):
        round_folder = run / f"round_00{number}"
        if (round_folder / "checkpoints").exists():
            return f"training, round {number}"
        if round_folder.exists():
            return f"discovery, round {number}"
    return "base"


def outcome(run: Path) -> dict[str, Any]:
    """Everything that must be equal: weights, part ids, the export, figures and logged losses."""
    patterns = (
        "*/encoder.safetensors",
        "*/checkpoints/step_*/*.safetensors",
        "round_*/parts/*.npy",
        "export/model.*",
    )
    files = [path for pattern in patterns for path in run.glob(pattern)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = json.loads((run / "results.json").read_text())["rows"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files} | {
        "metrics": [
            {key: value for key, value in line.items() if key not in CLOCKS} for line in lines
        ],
        "rows": [row["values"] for row in rows],
    }


if __name__ == "__main__":
    main()
