"""The processes of a command before they compute: threads, memory, precision, launcher."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.tracking import GeneralTracker
from accelerate.utils import KwargsHandler, LoggerType

from ssl_parts.engine.allocator import keep_freed_memory
from ssl_parts.engine.disk import disk_errors
from ssl_parts.engine.run_section import Precision, TrainingRunSection
from ssl_parts.engine.stop import Stopped, StopSignal
from ssl_parts.engine.trackers import make_trackers
from ssl_parts.errors import ConfigError

SHARDING = {  # what `accelerate launch` sets for its processes
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def start_accelerator(run: TrainingRunSection, *handlers: KwargsHandler) -> Accelerator:
    """Set threads and memory of this process, join the others, and choose the precision.

    Args:
        run: the run section of a training command.
        handlers: further options of accelerate, as `DistributedDataParallelKwargs`.

    Raises:
        ConfigError: as `check_whole_networks` and `make_trackers`.
    """
    check_whole_networks()
    set_threads(run.threads)
    cpu = not torch.cuda.is_available()
    bf16 = resolve_precision(run.precision) is Precision.bf16
    trackers: list[str | LoggerType | GeneralTracker] = [*make_trackers(run)]
    timeout = InitProcessGroupKwargs(timeout=timedelta(minutes=run.timeout_minutes))
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if bf16 else "no",
        log_with=trackers or None,
        kwargs_handlers=[timeout, *handlers],
    )


@contextmanager
def supervise_run(accelerator: Accelerator, folder: Path) -> Iterator[StopSignal]:
    """Hear stop signals while a run works, name the errors of its disk, and end its trackers.

    The processes stay together, so that another run may follow: see `end_processes`.

    Example:
        >>> with supervise_run(accelerator, run.folder) as stop:  # doctest: +SKIP
        ...     loop.train(learner)

    Raises:
        Stopped: a signal ended the work in order, which is said on the console.
        TrainingError: as `disk_errors`.
    """
    with StopSignal(accelerator) as stop, disk_errors(folder):
        try:
            yield stop
        except Stopped:
            accelerator.print(
                "Stopped by a signal, nothing is lost: the same command goes on.", flush=True
            )
            raise
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()


def end_processes() -> None:
    """Let the processes of a command part in order; once, after its last run."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_whole_networks(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a launcher that shards networks.

    Raises:
        ConfigError: FSDP, DeepSpeed or Megatron-LM; teacher, checkpoints and exports need a whole
            network in each process.
    """
    for key, name in SHARDING.items():
        if environment.get(key, "").lower() in ("1", "true"):
            raise ConfigError(
                f"accelerate is configured for {name} ({key}={environment[key]}), which shards "
                "networks; here each process needs a whole one. Launch with distributed_type: "
                "MULTI_GPU (launch/accelerate/one_node.yaml), and with "
                "train.grad_checkpointing=true where memory is short"
            )


def set_threads(threads: int | None) -> int:
    """Set torch's threads of this process and return their number; on a CPU, freed memory stays in
    the process, which halves the time of an encoder's pass.

    `accelerate launch` sets OMP_NUM_THREADS=1, which would leave cores idle.

    Args:
        threads: `run.threads`; None divides the available cores by the processes of this machine.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    chosen = threads or max(1, available_cores() // processes)
    torch.set_num_threads(chosen)
    if not torch.cuda.is_available():
        keep_freed_memory()
    return chosen


def available_cores() -> int:
    """Count the cores that this process may use, as a container or a Slurm task limits them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_precision(precision: Precision) -> Precision:
    """Name the precision that `auto` takes on this machine; others are returned as they are."""
    if precision is not Precision.auto:
        return precision
    fast = torch.cuda.is_available() or has_fast_bf16()
    return Precision.bf16 if fast else Precision.fp32


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AMX or AVX-512 BF16)."""
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, test, lambda: False)() for test in tests)


def choose_device(name: str) -> torch.device:
    """The device of `run.device`: auto is the first GPU of this process, or the CPU.

    Raises:
        ConfigError: a GPU where torch sees none, or one that is not there.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ConfigError(f"run.device={name} but torch sees {gpus} GPUs; use run.device=cpu")
    return device
