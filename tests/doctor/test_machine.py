"""The doctor of machine and speed: two processes that add up or say why not, and which stage holds
the others up.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_run import overrides

from ssl_parts.commands.main import run
from ssl_parts.doctor import machine
from ssl_parts.doctor.speed import Throughput, measure_throughput
from ssl_parts.engine.run_section import TrainingRunSection
from ssl_parts.engine.start import start_accelerator
from ssl_parts.recipes.load import load_recipe

REPO = Path(__file__).resolve().parents[2]


def test_two_processes_add_up_and_what_goes_wrong_is_said(monkeypatch):
    report = machine.examine_machine()
    assert report.collective is None and report.sound
    assert "two of them add up" in str(report) and "torch" in str(report)
    monkeypatch.setattr(machine.dist, "all_reduce", lambda tensor: None)
    assert "1 + 2 over two processes came out as" in machine.two_process_collective()


@pytest.mark.parametrize("fast", [True, False])
def test_the_precision_that_is_announced_is_the_one_that_a_run_takes(monkeypatch, tmp_path, fast):
    """A processor with AVX-512 BF16 and without AMX: the doctor once looked for AMX alone."""
    monkeypatch.setattr(machine, "two_process_collective", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, found in (("_is_amx_tile_supported", False), ("_is_avx512_bf16_supported", fast)):
        monkeypatch.setattr(torch.cpu, name, lambda found=found: found, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    report = machine.examine_machine()
    AcceleratorState._reset_state(True)
    accelerator = start_accelerator(TrainingRunSection(dir=str(tmp_path), threads=1))
    announced = f"run.precision=auto takes {'bf16' if fast else 'fp32'}"
    assert announced in str(report) and "3 cores" in str(report)
    assert accelerator.mixed_precision == ("bf16" if fast else "no")


@pytest.mark.parametrize(
    ("loading", "views", "step", "named"),
    [
        (100, 400, 200, "loading"),
        (134, 400, 200, "the step"),
        (500, 100, 200, "views"),
        (500, 300, 200, "the step"),
    ],
)
def test_the_bottleneck_is_loading_only_where_it_is_slower_than_the_rest_together(
    loading, views, step, named
):
    assert Throughput(loading, views, step, 1.0).bottleneck.startswith(named)


def test_every_stage_is_timed_and_training_is_not_faster_than_its_parts(tmp_path):
    AcceleratorState._reset_state(True)
    found = measure_throughput(load_recipe("quickstart", overrides(tmp_path)), steps=2)
    assert found.loading > found.step and found.views > found.step
    assert 0 < found.together < found.views
    assert not list(tmp_path.iterdir())


def test_the_command_looks_at_the_machine_without_data(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run("doctor", ["data.images=1", "--machine", "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "cores" in said and "images" not in said
    assert json.loads((tmp_path / "out/results.json").read_text())["sound"]
