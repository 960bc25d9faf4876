"""The start of a command's processes, and the errors of its disk."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate import DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from ssl_parts.engine import start
from ssl_parts.engine.disk import disk_errors
from ssl_parts.engine.run_section import Precision, TrainingRunSection
from ssl_parts.errors import ConfigError, TrainingError


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("wanted", "processes", "expected"), [(None, 1, 6), (None, 4, 1), (None, 9, 1), (3, 4, 3)]
)
def test_threads_are_the_cores_that_a_process_may_use(
    monkeypatch, threads, wanted, processes, expected
):
    """Six of many cores, as in a container: neither all cores nor OMP_NUM_THREADS counts."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert start.set_threads(wanted) == expected == threads()


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        ((), Precision.fp32),
        (("_is_amx_tile_supported",), Precision.bf16),
        (("_is_avx512_bf16_supported",), Precision.bf16),
    ],
)
def test_precision_auto_takes_bf16_where_the_processor_multiplies_it(
    monkeypatch, supported, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in supported, raising=False)
    assert start.resolve_precision(Precision.auto) is expected
    assert start.resolve_precision(Precision.fp32) is Precision.fp32
    assert start.resolve_precision(Precision.bf16) is Precision.bf16


def test_an_accelerator_has_what_the_run_section_says(tmp_path, threads):
    AcceleratorState._reset_state(True)
    run = TrainingRunSection(
        dir=str(tmp_path), threads=1, precision=Precision.bf16, timeout_minutes=7
    )
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = start.start_accelerator(run, unused)
    assert accelerator.init_handler.timeout.total_seconds() == 420
    assert accelerator.mixed_precision == "bf16"
    assert accelerator.ddp_handler.find_unused_parameters
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"run\.timeout_minutes=0"):
        TrainingRunSection(timeout_minutes=0).check()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
    ],
)
def test_a_launcher_that_shards_networks_is_refused(key, name):
    start.check_whole_networks({key: "false"})
    with pytest.raises(ConfigError, match=rf"{name} \({key}=True\).*MULTI_GPU"):
        start.check_whole_networks({key: "True"})


def write_badly(folder, error):
    with disk_errors(folder):
        raise error


def test_a_full_disk_is_one_sentence_with_the_file_or_the_folder(tmp_path):
    with pytest.raises(TrainingError, match=r"a/b\.json cannot be written: No space left"):
        write_badly(tmp_path, OSError(28, "No space left on device", "a/b.json"))
    with pytest.raises(TrainingError, match=rf"{tmp_path} cannot be written: Permission denied"):
        write_badly(tmp_path, PermissionError(13, "Permission denied"))


def test_other_errors_of_the_system_pass(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_badly(tmp_path, FileNotFoundError(2, "No such file", "a"))
    with pytest.raises(OSError, match=r"^disk$"):
        write_badly(tmp_path, OSError("disk"))


def test_disk_errors_and_the_run_section_load_no_torch():
    code = (
        "import sys, ssl_parts.engine.disk, ssl_parts.engine.run_section; "
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
