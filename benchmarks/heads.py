"""What each supervised head costs an image, relative to plain fine-tuning with the same encoder.

    python benchmarks/heads.py                                  # ResNet-18 of half width at 96 px, about a minute
    python benchmarks/heads.py --encoder mobilenetv2_100 --size 224 --batch 16
    python benchmarks/heads.py --device cuda --encoder resnet50 --size 224 --batch 64 --bf16

A step is loss, backward and optimiser on images that are already there; crops and mining of SCRIM
and UPM are in it. The heads take turns and each line is the median of rounds, so that a busy
machine slows all alike. On CPU the processor's time is counted, on a GPU the clock on the wall.
Classification is the forward pass in evaluation mode.
"""

import argparse
import statistics

import torch
from clocked import clocked

from evaluation.heads import HEADS, Head, build_head
from ssl_parts.encoders import build_encoder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoder", default="resnet18_small", help="timm name, or resnet18_small (default)"
    )
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    print(
        f"{given.encoder}, {given.size} px, batch {given.batch}, {given.classes} classes, {given.device}"
    )
    timed = {name: measured(name, given) for name in HEADS}
    seconds = {(name, what): [] for name in HEADS for what in ("train", "classify")}
    for number in range(given.rounds + 1):
        for name, (train, classify) in timed.items():
            for what, act in (("train", train), ("classify", classify)):
                spent = clocked(act, given.device)
                if number:  # the first round warms up
                    seconds[name, what].append(spent)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    print(f"{'head':<12} {'train img/s':>12} {'x plain':>8} {'classify img/s':>15} {'x plain':>8}")
    for name in HEADS:
        cells = []
        for what, width in (("train", 12), ("classify", 15)):
            spent = medians[name, what]
            cells.append(
                f"{given.batch / spent:>{width}.1f} {spent / medians['linear', what]:>8.2f}"
            )
        print(f"{name:<12} {' '.join(cells)}")


def measured(name: str, given: argparse.Namespace) -> tuple:
    """A training step and a classification of one head, as functions without arguments."""
    torch.manual_seed(0)
    small = given.encoder == "resnet18_small"
    options = {"small": True, "width": 0.5, "last_stage": "layer3"} if small else {}
    head: Head = build_head(
        name, build_encoder("resnet18" if small else given.encoder, **options), given.classes
    )
    head.to(given.device)
    optimizer = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=1e-4)
    images = torch.rand(given.batch, 3, given.size, given.size, device=given.device)
    labels = torch.arange(given.batch, device=given.device) // 4 % given.classes

    def train() -> None:
        head.train()
        with torch.autocast(given.device, torch.bfloat16, enabled=given.bf16):
            loss = head.loss(images, labels)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def classify() -> None:
        head.eval()
        with (
            torch.inference_mode(),
            torch.autocast(given.device, torch.bfloat16, enabled=given.bf16),
        ):
            head(images)

    return train, classify


if __name__ == "__main__":
    main()
