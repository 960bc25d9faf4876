"""Two CPU processes under torchrun train as one does: same loss, same weights (frozen batch-norm statistics)."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_run import overrides

REPO = Path(__file__).resolve().parents[2]
SGD = ("train.optimizer=sgd", "train.freeze_norm=true", "run.evaluate=false", "run.control=false", "train.rounds=1")


def test_two_processes_equal_one(tmp_path):
    script = str(REPO / "launch/pretrain.py")
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    }
    for name, launcher in launchers.items():
        command = [*launcher, script, *overrides(tmp_path / name, *SGD)]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=600)
    losses, weights = {}, {}
    for name in launchers:
        run = tmp_path / name / "tiny"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["loss"] for row in lines if "loss" in row]
        weights[name] = load_file(run / "round_000" / "encoder.safetensors")
    torch.testing.assert_close(losses["two"], losses["one"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights["two"], weights["one"], rtol=1e-5, atol=1e-5)
