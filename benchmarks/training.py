"""Pairs of views a second of our training step against the plain loop of the published method, and
where the time goes.

    python benchmarks/training.py --encoder resnet18 --size 128 --batch 16 --steps 2     # one core, some minutes
    python benchmarks/training.py --device cuda --batch 64 --peak-tflops 989             # ResNet-50 on an H100
    python benchmarks/training.py --device cuda --encoder vit_small_patch16_224 --batch 128
    --peak-tflops 989 python benchmarks/training.py --encoder resnet18_small --size 48 --batch 128
    --hidden 512 --projection 128
    python benchmarks/training.py --encoder resnet18 --file-size 1024 --steps 1          # large photographs
    python benchmarks/training.py --loss-memory                                           # B=512, M=16, CPU

Both start from the same image files, part ids and weights: the part-contrastive loss alone,
targets from a teacher, SGD, batch-norm statistics frozen (one forward for both views would
otherwise see other statistics than one for each). First both compute the loss of the same views,
which must agree; then they take turns, and each line is the median of rounds. Ours runs as in a
run: images decoded once, views on the device, bf16 on a GPU and fp32 on a CPU. On CPU everything
is on one core and counted by the processor's time, on a GPU by the clock on the wall; the plain
loop has a process of its own there, because ours asks the C library to keep what is freed
(`ssl_parts/engine/allocator.py`).
  pairs/s       of data, views, forward, backward, optimiser and teacher together
  encoder only  the share of our step that the encoders' forward passes and the student's backward alone would take
  of peak       floating-point operations of these passes, over our step's time and --peak-tflops (GPU, bf16)
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from clocked import clocked
from loading import draw_files
from omegaconf import OmegaConf
from plain_loop import PlainLoop, TwoViews, one_way, step_loss
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ssl_parts.configuration.compose import CONFIGS
from ssl_parts.data import BatchStream, DeviceBank, ImageBank, build_dataset
from ssl_parts.encoders import Encoder, EncoderConfig, make_encoder
from ssl_parts.engine.allocator import keep_freed_memory
from ssl_parts.engine.teacher import make_teacher
from ssl_parts.objectives import ObjectiveConfig, PartContrast
from ssl_parts.objectives.config import ParticleConfig
from ssl_parts.parts.store import PartStore, StoreInfo
from ssl_parts.pretraining.phase import Phase, Trainer
from ssl_parts.pretraining.train_config import Preset, TrainConfig
from ssl_parts.views import ViewsConfig

K, GRID = 15, 56


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoder", default="resnet50", help="a file in configs/encoder, or a name of timm"
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="of each round")
    parser.add_argument(
        "--file-size", type=int, default=384, help="side of the JPEG files in pixels"
    )
    parser.add_argument("--hidden", type=int, default=4096, help="width of the heads")
    parser.add_argument("--projection", type=int, default=256, help="their output")
    parser.add_argument("--compile", action="store_true", help="our encoders, by torch.compile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, help="of the plain loop's loader (default: 0 on CPU, 8 on a GPU)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, help="the card's bf16 peak without sparsity")
    parser.add_argument(
        "--loss-memory", action="store_true", help="peak memory of the loss alone, and stop"
    )
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    if given.loss_memory:
        print_loss_memory()
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given: argparse.Namespace, folder: Path) -> None:
    draw_files(folder, max(64, 2 * given.batch), given.file_size)
    data = build_dataset("folder", folder)
    bank = ImageBank(data, given.size, "crop").fill(workers=1)
    torch.manual_seed(0)
    ids_NHW = (
        torch.randint(0, K, (len(bank), 7, 7))
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2)
        .to(torch.uint8)
    )
    ours = our_trainer(given, bank, ids_NHW, folder)
    student = make_teacher(ours.student)
    for mine, theirs in zip(student.parameters(), ours.student.parameters()):
        mine.requires_grad_(theirs.requires_grad)
    plain = PlainLoop(student, make_teacher(ours.teacher), 0.005, 0.996)
    print(
        f"{given.encoder}, {given.size} px, batch {given.batch}, {given.device}, torch {torch.__version__}"
    )
    print_losses(ours, plain)
    loader = DataLoader(
        TwoViews([folder / path for path in bank.paths], ids_NHW, given.size),
        given.batch,
        shuffle=True,
        drop_last=True,
        num_workers=(0 if given.device == "cpu" else 8) if given.workers is None else given.workers,
    )
    plain_clock = clock_of_plain(plain, loader, given)
    if given.device == "cpu":
        keep_freed_memory()
    with ours.open_stream(0) as stream:
        clocks = {
            "ours": lambda: clocked(lambda: our_steps(ours, stream, given), given.device),
            "plain": plain_clock,
        }
        clocks["encoder only"] = lambda: clocked(lambda: encoder_steps(ours, given), given.device)
        seconds = {name: [] for name in clocks}
        for number in range(given.rounds + 1):
            for name, clock in clocks.items():
                spent = clock()
                if number:  # the first round warms up
                    seconds[name].append(spent)
    step = {name: statistics.median(values) / given.steps for name, values in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds["plain"]))
    rate = {name: given.batch / spent for name, spent in step.items()}
    print(f"pairs/s       ours {rate['ours']:.2f}   plain {rate['plain']:.2f}   {ratio:.2f}x")
    print(f"encoder only  {step['encoder only'] / step['ours']:.0%} of our step")
    if given.peak_tflops:
        with FlopCounterMode(display=False) as counter:
            encoder_steps(ours, argparse.Namespace(**vars(given) | {"steps": 1}))
        print(
            f"of peak       {counter.get_total_flops() / step['ours'] / given.peak_tflops / 1e12:.0%}"
        )


def clock_of_plain(
    plain: PlainLoop, loader: DataLoader, given: argparse.Namespace
) -> Callable[[], float]:
    """Clocks the plain loop's steps; on CPU in a process of its own, with the C library's own ways
    of allocation.
    """

    def clock() -> float:
        return clocked(lambda: plain_steps(plain, loader, given), given.device)

    if given.device != "cpu":
        return clock
    here, there = multiprocessing.Pipe()

    def serve() -> None:
        while there.recv():
            there.send(clock())

    multiprocessing.get_context("fork").Process(target=serve, daemon=True).start()
    return lambda: here.send(True) or here.recv()


def encoder_named(name: str) -> Encoder:
    """That of configs/encoder/NAME.yaml where there is one, else timm's, with random weights."""
    file = CONFIGS / "encoder" / f"{name}.yaml"
    given: Any = OmegaConf.load(file) if file.is_file() else {"name": name}
    return make_encoder(EncoderConfig(**{**given, "weights": None}))


def our_trainer(
    given: argparse.Namespace, bank: ImageBank, ids_NHW: torch.Tensor, folder: Path
) -> Trainer:
    store = PartStore(StoreInfo(len(bank), ids_NHW.shape[-1], K))
    store.write(range(len(bank)), ids_NHW)
    heads = {"hidden": given.hidden, "projection": given.projection}
    terms = ParticleConfig(instance_weight=0.0, include_background=True)
    objective = ObjectiveConfig(particle=terms, **heads)
    train = TrainConfig(
        Preset.full, batch=given.batch, optimizer="sgd", lr=0.005, ema=0.996, freeze_norm=True
    )
    train.compile = given.compile
    views = ViewsConfig(size=given.size, ids_size=GRID)
    accelerator = Accelerator(
        cpu=given.device == "cpu", mixed_precision="no" if given.device == "cpu" else "bf16"
    )
    phase = Phase(
        "benchmark", folder, 10_000, 0.005, 0, objective, train.resolved(True), views, store
    )
    source = bank if given.device == "cpu" else DeviceBank(bank, given.device)
    return Trainer(phase, encoder_named(given.encoder), source, accelerator)


@torch.no_grad()
def print_losses(ours: Trainer, plain: PlainLoop) -> None:
    """Both losses of the same views, in fp32, with the same weights."""
    with ours.open_stream(0) as stream:
        views = ours.make_views(*next(stream))
    ids_Ngg, priority_NK = views.ids_Ngg, views.priority_NK
    assert ids_Ngg is not None and priority_NK is not None, "the phase has parts"
    inputs = (views.images_NCHW, ids_Ngg, priority_NK)
    mine = ours.objective(ours.student(*inputs), ours.teacher(*inputs, predict=False))["loss"]
    (one, two), (ids_one, ids_two), priority = (
        inputs[0].chunk(2),
        ids_Ngg.chunk(2),
        priority_NK.chunk(2)[0],
    )
    theirs = step_loss(plain.student, plain.teacher, (one, two, ids_one, ids_two, priority))
    print(f"same loss     ours {float(mine):.6f}   plain {float(theirs):.6f}")
    if not torch.isclose(mine, theirs, rtol=1e-4):
        raise SystemExit("the two losses differ: the comparison says nothing")


def our_steps(ours: Trainer, stream: BatchStream, given: argparse.Namespace) -> None:
    for step in range(given.steps):
        ours.take_step(stream, step)


def plain_steps(plain: PlainLoop, loader: DataLoader, given: argparse.Namespace) -> None:
    done = 0
    while done < given.steps:
        for one, two, ids_one, ids_two in loader:
            priority = torch.rand(len(one), K)
            plain.step(
                tuple(tensor.to(given.device) for tensor in (one, two, ids_one, ids_two, priority))
            )
            done += 1
            if done == given.steps:
                return


def encoder_steps(ours: Trainer, given: argparse.Namespace) -> None:
    """Forward of student and teacher, backward of the student, on images that are there: nothing
    else.
    """
    images = torch.zeros(2 * given.batch, 3, given.size, given.size, device=given.device)
    images = images.contiguous(memory_format=torch.channels_last)
    for _ in range(given.steps):
        with ours.accelerator.autocast():
            with torch.no_grad():
                ours.teacher.encoder(images)
            loss = ours.encoder(images).pooled.float().sum()
        loss.backward()
        ours.optimizer.zero_grad(set_to_none=True)


def print_loss_memory(b: int = 512, m: int = 16, d: int = 256) -> None:
    """Peak memory of forward and backward of the loss alone, ours and with labels written out, a
    process each.
    """
    logits = (b * m) ** 2 * 4 / 2**30
    print(f"B={b}, M={m}: one B²M² matrix in fp32 is {logits:.2f} GiB")
    for name in ("ours", "plain"):
        peak = peak_of(lambda name=name: loss_alone(name, b, m, d))
        print(f"{name:6} peak {peak:.2f} GiB, inputs included", flush=True)


def loss_alone(name: str, b: int, m: int, d: int) -> None:
    torch.manual_seed(0)
    q1, q2 = (torch.randn(b, m, d, requires_grad=True) for _ in range(2))
    t1, t2 = (F.normalize(torch.randn(b, m, d), dim=-1) for _ in range(2))
    ids, valid = torch.arange(m).expand(b, m), torch.ones(b, m, dtype=torch.bool)
    if name == "ours":
        loss = PartContrast()((q1, q2), (t1, t2), (ids, ids), (valid, valid))
    else:
        first = one_way(q1, t2, t1, (ids, ids), (valid, valid), 0.1)
        loss = first + one_way(q2, t1, t2, (ids, ids), (valid, valid), 0.1)
    loss.backward()


def peak_of(act: Callable[[], None]) -> float:
    """GiB by which the largest resident size of a forked process rises while it acts."""
    hear, say = os.pipe()
    if os.fork() == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        act()
        os.write(say, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before).encode())
        os._exit(0)
    os.close(say)
    os.wait()
    return int(os.read(hear, 64) or b"-1") / 2**20


if __name__ == "__main__":
    main()
