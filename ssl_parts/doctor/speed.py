"""Where the time of a training step goes: loading alone, views alone, the step alone, and all
together.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ssl_parts.data import Bank, build_bank, place_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.start import start_accelerator
from ssl_parts.parts.store import PartStore, StoreInfo
from ssl_parts.pretraining.config import PretrainConfig
from ssl_parts.pretraining.phase import Phase, Trainer, steps_of


@dataclass(frozen=True)
class Throughput:
    """Pairs of views a second, each stage by itself, and together as in training."""

    loading: float
    views: float
    step: float
    together: float

    @property
    def bottleneck(self) -> str:
        """Loading runs beside the other two; it holds them up only where it is slower than both
        together.
        """
        if self.loading < 1 / (1 / self.views + 1 / self.step):
            return "loading: try data.cache=memory, data.on_device=always or more cores"
        if self.views < self.step:
            return "views: they run where training runs; try smaller views.size or weaker views.photometric.blur"
        return "the step: this is as it should be; a smaller encoder or views.size is faster"

    def __str__(self) -> str:
        names = ("loading", "views", "step", "together")
        rates = [f"  {name:10} {getattr(self, name):,.1f} pairs/s" for name in names]
        return "\n".join([*rates, f"  bottleneck {self.bottleneck}"])


def measure_throughput(config: PretrainConfig, steps: int = 5) -> Throughput:
    """Time `steps` steps of each stage with the configured data, encoder, objective and batch; ids
    are drawn.

    Raises:
        ConfigError, DataError, WeightsError: what a run would raise before training.
    """
    accelerator = start_accelerator(config.run)
    bank = build_bank(config.data)
    source = place_bank(bank, accelerator.device, config.data.on_device)
    steps_of(1, len(bank), config.train)
    with TemporaryDirectory() as folder:
        train = config.train.resolved(weights_given=config.encoder.weights is not None)
        ids, objective = drawn(config, bank), config.objective
        phase = Phase(
            "doctor", Path(folder), 10**6, train.lr, 0, objective, train, config.views, ids
        )
        encoder = make_encoder(config.encoder).to(accelerator.device)
        trainer = Trainer(
            phase, encoder, source, accelerator, MetricsLog(Path(folder) / "none", enabled=False)
        )
        with trainer.stream(0) as stream:
            return measure_stages(trainer, stream, steps)


def measure_stages(trainer: Trainer, stream: object, steps: int) -> Throughput:
    batch = next(stream)
    views = trainer.make_views(*batch)
    make_views, same = trainer.make_views, itertools.repeat(batch)

    def train(batches: object) -> None:
        trainer.forward_backward(batches, 0, last=True)
        trainer.update(0)

    def rate(act: Callable[[], object]) -> float:
        act()  # warms up; for loading, empties what was read ahead
        synchronise(trainer)
        began = time.perf_counter()
        for _ in range(steps):
            act()
        synchronise(trainer)
        return trainer.phase.train.batch * steps / (time.perf_counter() - began)

    loading = rate(lambda: stream.read_now())
    seen = rate(lambda: make_views(*batch))
    trainer.make_views = lambda *_: views
    step = rate(lambda: train(same))
    trainer.make_views = make_views
    return Throughput(loading, seen, step, rate(lambda: train(stream)))


def drawn(config: PretrainConfig, bank: Bank) -> PartStore:
    """Blocks of random ids for every image, as many as discovery would give."""
    parts = config.parts
    store = PartStore(
        StoreInfo(len(bank), parts.size, parts.ids, 0 if parts.has_background else None)
    )
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, parts.ids, (len(bank), 1, 4, 4), generator=generator).float()
    store.write(
        range(len(bank)), torch.nn.functional.interpolate(blocks, size=parts.size)[:, 0].byte()
    )
    return store


def synchronise(trainer: Trainer) -> None:
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
