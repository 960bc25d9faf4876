"""How fast SyntheticBirds draws, and how hard it is.

    OMP_NUM_THREADS=1 python benchmarks/synthetic_birds.py                # images/s on one core, under a minute
    OMP_NUM_THREADS=1 python benchmarks/synthetic_birds.py --difficulty   # linear probe, supervised network; 10 min
    python benchmarks/synthetic_birds.py --sheet birds.png                # one bird of each species, one row a genus

The difficulty is on the test split (2000 images, 40 species, 64 px) after 4000 training images;
chance is 2.5 %. Settings are fixed here, none is chosen by its test accuracy.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from ssl_parts.data.sets.synthetic_birds import SyntheticBirds

TRAIN, TEST, SIZE = 4000, 2000, 64


def images_per_second(size: int, seconds: float = 4.0) -> float:
    """By the processor's time, so that other work on the machine does not count."""
    birds = SyntheticBirds("train", size=size)
    for i in range(40):  # one of each species: their templates are made once
        birds[i]
    start, n = time.process_time(), 0
    while time.process_time() - start < seconds:
        birds[n % len(birds)]
        n += 1
    return n / (time.process_time() - start)


def drawn(split: str, n: int) -> tuple[Tensor, Tensor]:
    birds = SyntheticBirds(split, images=n, size=SIZE)
    images = np.stack([birds.draw(i).image for i in range(n)])
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(birds.labels)


def raw_pixel_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], side: int, c: float
) -> float:
    """Logistic regression on the pixels, averaged down to side x side."""

    def pixels(images: Tensor) -> np.ndarray:
        return F.adaptive_avg_pool2d(images.float() / 255 - 0.5, side).flatten(1).numpy()

    model = LogisticRegression(C=c, max_iter=200).fit(pixels(train[0]), train[1].numpy())
    return float(model.score(pixels(test[0]), test[1].numpy()))


def small_resnet() -> nn.Module:
    """ResNet-18 of half width whose stem halves the image once."""
    block: Any = BasicBlock  # timm's types ask for an instance of it
    net = ResNet(block, (2, 2, 2, 2), num_classes=40, channels=(32, 64, 128, 256))
    net.conv1, net.bn1, net.maxpool = (
        nn.Conv2d(3, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.Identity(),
    )
    first = net.get_submodule("layer1.0")
    first.conv1 = nn.Conv2d(32, 32, 3, 1, 1, bias=False)
    first.register_module("downsample", None)
    return net.to(memory_format=torch.channels_last)


def augmented(images: Tensor) -> Tensor:
    """Each image flipped or not; a random shift of up to 6 pixels for the batch."""
    flip = torch.rand(len(images)) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    row, column = torch.randint(0, 13, (2,)).tolist()
    return F.pad(images, (6,) * 4, mode="replicate")[:, :, row : row + SIZE, column : column + SIZE]


def normalised(images: Tensor) -> Tensor:
    return ((images.float() - 120) / 60).contiguous(memory_format=torch.channels_last)


def supervised_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], epochs: int, batch: int = 64
) -> float:
    torch.manual_seed(0)
    net, (images, labels) = small_resnet(), train
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=steps, pct_start=0.15
    )
    loss = torch.tensor(torch.nan)
    for epoch in range(epochs):
        for index in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
            with torch.autocast("cpu", torch.bfloat16):
                scores = net(augmented(normalised(images[index])))
            loss = F.cross_entropy(scores.float(), labels[index], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"  epoch {epoch + 1}/{epochs}  loss {loss.item():.3f}", flush=True)
    net.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = torch.cat([net(normalised(part)).argmax(1) for part in test[0].split(250)])
    return float((found == test[1]).float().mean())


def sheet(path: Path, size: int = 160) -> None:
    birds = SyntheticBirds("train", images=40, size=size)
    tiles = [birds.draw(int(i)).image for i in np.argsort(birds.labels)]
    rows = [np.concatenate(tiles[first : first + 4], 1) for first in range(0, 40, 4)]
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--difficulty", action="store_true")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(arguments.sheet)
        print(f"wrote {arguments.sheet}")
        return
    for size in (64, 128, 224, 512):
        print(f"{size:4d} px  {images_per_second(size):7.1f} images/s", flush=True)
    if arguments.difficulty:
        train, test = drawn("train", TRAIN), drawn("test", TEST)
        for side, c in ((4, 1.0), (8, 0.01), (16, 0.01), (64, 0.001)):
            print(
                f"raw pixels {side:2d} x {side:<2d}  accuracy {raw_pixel_accuracy(train, test, side, c):.3f}",
                flush=True,
            )
        print(
            f"supervised network  accuracy {supervised_accuracy(train, test, arguments.epochs):.3f}"
        )


if __name__ == "__main__":
    main()
