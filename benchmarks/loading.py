"""How fast images reach a training step, against a plain torchvision pipeline on the same core.

    python benchmarks/loading.py                                       # drawn birds as JPEG files, about two minutes
    python benchmarks/loading.py --root ../shared/data/cub10/images    # any folder of images
    python benchmarks/loading.py --device cuda                         # views and the step on a GPU, images kept there

On CPU everything runs on one core and is counted by the processor's time, workers included, so
that other work on the machine does not count; on a GPU it is the clock on the wall. Each line is
the median of rounds.
  squares   the centre square of 0.875 at --size: torchvision (PIL decode, CenterCrop, Resize, DataLoader) against
            BatchStream over a filled ImageBank
  crops     two random bicubic crops and flips of each image as float, no colour: torchvision's RandomResizedCrop on PIL
            images against BatchStream and `sample_images`, the ids' grid beside it
  views     two full views with ids of 56 x 56 (colour, blur and all), as a share of a ResNet-18 step on these views
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms import v2

from ssl_parts.data import BatchStream, DeviceBank, ImageBank, build_dataset
from ssl_parts.data.sets.image_files import ImageFiles
from ssl_parts.data.sets.synthetic_birds import SyntheticBirds
from ssl_parts.views import ViewsConfig, make_views, plan_views
from ssl_parts.views.geometry import sample_ids, sample_images, snap_to_pixels


class PlainFolder(Dataset):
    """What most training scripts write: open, convert, transform."""

    def __init__(self, paths: list[Path], transform: Callable) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor | tuple[Tensor, ...]:
        return self.transform(Image.open(self.paths[i]).convert("RGB"))


def centre_square(size: int) -> Callable:
    def transform(image: Any) -> Tensor:  # of PIL, which torchvision's types leave out
        square = v2.functional.center_crop(image, [round(0.875 * min(image.size))] * 2)
        return v2.functional.pil_to_tensor(
            v2.functional.resize(square, [size, size], antialias=True)
        )

    return transform


def two_crops(size: int) -> Callable:
    to_float = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    crop = v2.Compose(
        [v2.RandomResizedCrop(size, interpolation=3), v2.RandomHorizontalFlip(), *to_float]
    )
    return lambda image: (crop(image), crop(image))


def clock(device: str) -> float:
    """Seconds of processor time of this process and its ended children; of the wall for a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter()
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def plain(paths: list[Path], transform: Callable, options: argparse.Namespace) -> float:
    """Images a second of a DataLoader with one worker, which has ended when the clock stops."""
    start, number = clock(options.device), 0
    while number < options.images:
        for batch in DataLoader(
            PlainFolder(paths, transform), options.batch, shuffle=True, num_workers=1
        ):
            number += len(batch[0]) if isinstance(batch, list) else len(batch)
    return number / (clock(options.device) - start)


def cached(
    bank: ImageBank | DeviceBank, options: argparse.Namespace, work: Callable | None = None
) -> float:
    """Images a second of a stream with one worker."""
    batches = -(-options.images // options.batch)
    with BatchStream(bank, options.batch, workers=1) as stream:
        start = clock(options.device)
        for _ in range(batches):
            item = next(stream)
            if work is not None:
                work(item)
        return batches * options.batch / (clock(options.device) - start)


def grids(config: ViewsConfig, options: argparse.Namespace) -> Callable:
    """Both random crops of a batch and their ids, without colour."""

    def work(item: tuple[int, Tensor, Tensor]) -> None:
        step, _, images = item
        plan = plan_views(len(images), config, 0, step)
        images = images.to(options.device)
        ids = torch.zeros(len(images), 56, 56, dtype=torch.uint8, device=options.device)
        for theta in snap_to_pixels(plan.theta_N23, images.shape[-1]).chunk(2):
            sample_images(images, theta, config.size, config.interpolation.value)
            sample_ids(ids, theta, config.ids_size)

    return work


def seconds(work: Callable, rounds: int, device: str) -> float:
    """Median of a call, the first not counted."""
    times = []
    for _ in range(rounds + 1):
        start = clock(device)
        work()
        times.append(clock(device) - start)
    return sorted(times[1:])[rounds // 2]


def views_against_resnet(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of make_views and of a ResNet-18 step on the 2 x batch images that it makes."""
    config = replace(ViewsConfig(), size=options.size, ids_size=min(56, options.size))
    images = torch.randint(
        0, 256, (options.batch, 3, options.size, options.size), dtype=torch.uint8
    )
    images, ids = (
        images.to(options.device),
        torch.zeros(options.batch, 56, 56, dtype=torch.uint8).to(options.device),
    )
    model = resnet18().to(options.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    inputs = torch.rand(2 * options.batch, 3, options.size, options.size, device=options.device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def views() -> None:
        make_views(images, ids, plan_views(options.batch, config, 0, 0), config, k=16)

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.device != "cpu"):
            loss = F.cross_entropy(
                model(inputs), torch.zeros(len(inputs), dtype=torch.long, device=options.device)
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return seconds(views, options.rounds, options.device), seconds(
        step, options.rounds, options.device
    )


def draw_files(folder: Path, number: int = 300, size: int = 384) -> Path:
    # more than it draws is enlarged
    birds = SyntheticBirds("train", images=number, size=min(size, 512))
    for i in range(number):
        image = Image.fromarray(birds[i].image.permute(1, 2, 0).numpy()).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        image.save(folder / f"{i:04d}.jpg", quality=92)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="a folder of images; drawn birds without it")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=600, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = build_dataset("folder", options.root or draw_files(Path(folder)))
        assert isinstance(data, ImageFiles), "images of a folder have files"
        compare(data.root, ImageBank(data, options.size, "crop"), options)


def compare(root: Path, bank: ImageBank, options: argparse.Namespace) -> None:
    paths = [root / path for path in bank.paths]
    start = clock("cpu")
    bank.fill(workers=1)
    filled = len(bank) / (clock("cpu") - start)
    source = bank if options.device == "cpu" else DeviceBank(bank, options.device)
    print(f"{len(bank)} images, {options.size} px, batch {options.batch}, {options.device}")
    print(f"the cache fills once, at {filled:.0f} images/s")
    config = replace(ViewsConfig(), size=options.size, ids_size=min(56, options.size))
    for name, transform, work in (
        ("squares", centre_square(options.size), None),
        ("crops", two_crops(options.size), grids(config, options)),
    ):
        pairs = sorted(
            (cached(source, options, work), plain(paths, transform, options))
            for _ in range(options.rounds)
        )
        ours, theirs = sorted(pairs, key=lambda pair: pair[0] / pair[1])[options.rounds // 2]
        print(
            f"{name:8} ours {ours:8.0f} images/s   torchvision {theirs:7.0f} images/s   ratio {ours / theirs:6.1f}"
        )
    views, step = views_against_resnet(options)
    print(
        f"views    {1000 * views:.0f} ms   ResNet-18 step {1000 * step:.0f} ms   share {views / step:.2f}"
    )


if __name__ == "__main__":
    main()
