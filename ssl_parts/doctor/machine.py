"""Is this machine ready? Versions, processors, devices, and whether two processes can talk to each
other.
"""

import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist

from ssl_parts.engine.run_folder import environment
from ssl_parts.engine.run_section import Precision
from ssl_parts.engine.start import available_cores, resolve_precision

PATIENCE = 120  # seconds that the two processes may take


@dataclass
class MachineReport:
    """What `examine_machine` found; `str` is what is printed."""

    environment: dict
    cores: int
    fast_bf16: bool  # bf16 is worth it on the device that training would take
    devices: list[str]
    collective: str | None  # what went wrong between two processes, None if nothing

    @property
    def sound(self) -> bool:
        return self.collective is None

    def __str__(self) -> str:
        versions = self.environment["packages"].items()
        return "\n".join(
            [
                f"Python {self.environment['python']} on {self.environment['platform']}, {self.cores} cores",
                "  " + ", ".join(f"{name} {version}" for name, version in versions),
                f"  devices    {', '.join(self.devices) or 'no GPU: training takes the CPU'}",
                f"  precision  run.precision=auto takes {'bf16' if self.fast_bf16 else 'fp32'}",
                f"  processes  {self.collective or 'two of them add up'}",
            ]
        )


def examine_machine() -> MachineReport:
    """Look at everything that needs no data; takes a second or two."""
    devices = []
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        devices.append(f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    fast = resolve_precision(Precision.auto) is Precision.bf16
    return MachineReport(environment(), available_cores(), fast, devices, two_process_collective())


def two_process_collective() -> str | None:
    """Start two processes that sum their ranks + 1 over gloo; what went wrong, None if nothing
    did.
    """
    fork = sys.platform == "linux" and not torch.cuda.is_initialized()
    context = get_context("fork") if fork else get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_add_up, args=(rank, Path(folder)), daemon=True)
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        late = [process for process in processes if process.is_alive()]
        for process in late:
            process.kill()
        problems = [(Path(folder) / f"problem_{rank}") for rank in range(2)]
        said = next((path.read_text() for path in problems if path.exists()), None)
    if late:
        return f"two processes did not find each other within {PATIENCE} s: is the loopback network open?"
    return said or (
        None
        if all(process.exitcode == 0 for process in processes)
        else "a process died while adding up"
    )


def _add_up(rank: int, folder: Path) -> None:
    try:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", store, timedelta(seconds=PATIENCE), world_size=2, rank=rank)
        total = torch.tensor(rank + 1.0)
        dist.all_reduce(total)
        dist.destroy_process_group()
        if total != 3:
            raise RuntimeError(f"1 + 2 over two processes came out as {float(total)}")
    except Exception as error:
        (folder / f"problem_{rank}").write_text(f"{type(error).__name__}: {error}")
