"""Several seeds of a recipe, one after another or several at once, each in a process of its own."""

import multiprocessing
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from evaluation.results import Results, read_results
from ssl_parts.engine.start import available_cores
from ssl_parts.engine.stop import REQUEUE, SIGNALS, Stopped
from ssl_parts.errors import ConfigError, SslPartsError, TrainingError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.recipes.schemas import Config


def of_seed(config: Config, seed: int) -> Config:
    run = replace(config.run, name=f"{config.run.name}/seed_{seed}", seed=seed)
    return replace(config, run=run)


def run_seeds(config: Config, seeds: list[int], jobs: int = 1) -> dict[int, Results | None]:
    """Run (or continue) the recipe for each seed; seed → what its results.json holds
    (None beside the main process).

    Args:
        jobs: seeds that run at once. More than one: each is a process that writes to
            runs/NAME/seed_S.log and has its share of the cores.

    Raises:
        ConfigError: jobs below 1, or several under a launcher of several processes.
        TrainingError: a process that failed, with the last line of its log. The others are stopped
            where they lose nothing.
        Stopped: SIGTERM or SIGUSR1, handed on to all processes.
    """
    if jobs < 1 or (jobs > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1):
        raise ConfigError(
            f"--jobs {jobs}: at least 1, and 1 where a launcher starts several processes for each run"
        )
    if min(jobs, len(seeds)) == 1:
        return {seed: pretrain(of_seed(config, seed)) for seed in seeds}
    threads = config.run.threads or max(1, available_cores() // min(jobs, len(seeds)))
    config = replace(config, run=replace(config.run, threads=threads))
    folder = Path(config.run.dir) / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    run_processes({log_of(folder, seed): of_seed(config, seed) for seed in seeds}, jobs)
    return {seed: read_results(folder / f"seed_{seed}" / "results.json") for seed in seeds}


def log_of(folder: Path, seed: int) -> Path:
    return folder / f"seed_{seed}.log"


def run_processes(configs: dict[Path, Config], jobs: int) -> None:
    """One process for each log file and configuration, `jobs` of them at a time, until all have
    ended well.
    """
    context = multiprocessing.get_context("spawn")  # forked threads of torch would hang
    waiting = [
        context.Process(target=run_logged, args=(config, log), name=str(log))
        for log, config in configs.items()
    ]
    with Together() as together:
        while together.running or (waiting and not together.asked):
            while waiting and len(together.running) < jobs and not together.asked:
                together.start(waiting.pop(0))
            ended = set(wait(list(together.running)))
            for sentinel in [known for known in together.running if known in ended]:
                process = together.running.pop(sentinel)
                process.join()
                if process.exitcode and not together.asked:
                    raise why_ended(process)
                print(f"Ended:   {process.name}", flush=True)
    if together.asked:
        raise Stopped


class Together:
    """Processes that stop together: a signal that asks to stop goes to all, and none is left
    running behind.
    """

    def __init__(self) -> None:
        self.running: dict[int, BaseProcess] = {}
        self.asked = False

    def start(self, process: BaseProcess) -> None:
        process.start()
        self.running[process.sentinel] = process
        print(f"Started: {process.name}", flush=True)
        if self.asked:  # since before it was on the list
            process.terminate()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for process in self.running.values():
            process.terminate()  # SIGTERM: each saves where it is

    def __enter__(self) -> "Together":
        self._earlier = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.join()
        for number, handler in self._earlier.items():
            signal.signal(number, handler)


def why_ended(process: BaseProcess) -> Stopped | TrainingError:
    """A process that was asked to stop on its own, or one that failed."""
    if process.exitcode == REQUEUE:
        return Stopped()
    said = Path(process.name).read_text(errors="replace").strip().splitlines() or ["nothing"]
    return TrainingError(
        f"the process of {process.name} ended with code {process.exitcode} and said last: {said[-1]}. "
        "The same command continues every seed"
    )


def run_logged(config: Config, log: Path) -> None:
    """The main of a process: `pretrain` with everything it says in a file."""
    with open(log, "a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        os.dup2(file.fileno(), 1)  # what libraries in C++ say, and the traceback of a fault
        os.dup2(file.fileno(), 2)
        try:
            pretrain(config)
        except SslPartsError as error:
            print(f"{type(error).__name__}: {error}")
            sys.exit(1)
