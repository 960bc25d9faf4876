"""Where the time of a training step goes: loading, views and the step by themselves, and all
together.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from ssl_parts.data import BatchStream, build_bank, place_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.start import start_accelerator
from ssl_parts.parts.store import PartStore, StoreInfo
from ssl_parts.pretraining.config import PretrainConfig
from ssl_parts.pretraining.phase import Phase, Trainer, steps_of


@dataclass(frozen=True)
class Throughput:
    """Pairs of views per second, each stage by itself, and together as in training."""

    loading: float
    views: float
    step: float
    together: float

    @property
    def bottleneck(self) -> str:
        """The stage that limits training, and what to try.

        Loading runs beside the other two; it limits them only where it is slower than both
        together.
        """
        if self.loading < 1 / (1 / self.views + 1 / self.step):
            return "loading: try data.cache=memory, data.on_device=always or more cores"
        if self.views < self.step:
            return (
                "views: they run where training runs; try smaller views.size or weaker "
                "views.photometric.blur"
            )
        return "the step: this is as it should be; a smaller encoder or views.size is faster"

    def __str__(self) -> str:
        names = ("loading", "views", "step", "together")
        rates = [f"  {name:10} {getattr(self, name):,.1f} pairs/s" for name in names]
        return "\n".join([*rates, f"  bottleneck {self.bottleneck}"])


def measure_throughput(config: PretrainConfig, steps: int = 5) -> Throughput:
    """Time `steps` steps of each stage with the configured data, encoder, objective and batch.

    Part ids are random.

    Raises:
        ConfigError, DataError, WeightsError: what a run would raise before training.
    """
    accelerator = start_accelerator(config.run)
    bank = build_bank(config.data)
    source = place_bank(bank, accelerator.device, config.data.on_device)
    steps_of(1, len(bank), config.train)
    train = config.train.resolved(weights_given=config.encoder.weights is not None)
    with TemporaryDirectory() as folder:
        phase = Phase(
            "doctor",
            Path(folder),
            10**6,
            train.lr,
            config.run.seed,
            config.objective,
            train,
            config.views,
            draw_parts(config, len(bank)),
        )
        encoder = make_encoder(config.encoder).to(accelerator.device)
        trainer = Trainer(phase, encoder, source, accelerator)
        with trainer.open_stream(0) as stream:
            return measure_stages(trainer, stream, steps)


def measure_stages(trainer: Trainer, stream: BatchStream, steps: int) -> Throughput:
    """Time each stage of a training step by itself, and whole steps with all of them."""
    batch = next(stream)
    views = trainer.make_views(*batch)

    def train() -> None:
        trainer.forward_backward(views, batch[1], step=0)
        trainer.update(step=0)

    def rate(act: Callable[[], object]) -> float:
        act()  # warms up; for loading, empties what was read ahead
        synchronise(trainer)
        began = time.perf_counter()
        for _ in range(steps):
            act()
        synchronise(trainer)
        return trainer.phase.train.batch * steps / (time.perf_counter() - began)

    return Throughput(
        loading=rate(stream.read_now),
        views=rate(lambda: trainer.make_views(*batch)),
        step=rate(train),
        together=rate(lambda: trainer.take_step(stream, step=0)) * trainer.phase.train.accumulate,
    )


def draw_parts(config: PretrainConfig, images: int) -> PartStore:
    """Draw blocks of random ids for every image, as many ids as discovery would give."""
    parts = config.parts
    background = 0 if parts.has_background else None
    store = PartStore(StoreInfo(images, parts.size, parts.ids, background))
    generator = torch.Generator().manual_seed(0)
    blocks_N1hw = torch.randint(0, parts.ids, (images, 1, 4, 4), generator=generator).float()
    ids_NHW = F.interpolate(blocks_N1hw, size=parts.size)[:, 0].byte()
    store.write(range(images), ids_NHW)
    return store


def synchronise(trainer: Trainer) -> None:
    """Wait until the device has done what it was given."""
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
