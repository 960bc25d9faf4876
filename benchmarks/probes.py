"""Where an evaluation spends its time: extraction of features against everything after it.

    python benchmarks/probes.py --root DIR --weights FILE     # CUB (also a part of it), MobileNetV2, 224 px, CPU
    python benchmarks/probes.py --device cuda                 # the sweep alone: 45 values of C, 50k x 2048, 200 classes

On a CPU one core, counted by the processor's time, decoding not counted. We want extraction at 90
% or more on a CPU, and the sweep below a minute on a GPU.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from evaluation.features import extract_features
from evaluation.knn import knn_classify
from evaluation.linear_probe import C_VALUES, linear_probe, sweep_c
from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import build_encoder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of CUB-200-2011")
    parser.add_argument(
        "--weights", help="of mobilenetv2_100 with pad_type=same, inputs in [-1, 1]"
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.device != "cpu":
        return sweep_on_gpu(given.device)
    torch.set_num_threads(1)
    config = DataConfig(name="cub", root=given.root, size=given.size, allow_partial=True)
    train, test = build_bank(config), build_bank(config, "test")
    options = {"mean": [0.5] * 3, "std": [0.5] * 3, "pad_type": "same"}
    encoder = build_encoder("mobilenetv2_100", given.weights, **options).eval()
    seconds, (fit, held) = clocked(
        lambda: [extract_features(encoder, bank) for bank in (train, test)]
    )
    print(f"extraction of {len(train) + len(test)} images: {seconds:.1f} s")
    x, y, test_x, test_y = fit.pooled, fit.labels, held.pooled, held.labels
    half = np.arange(len(x)) % 2 == 0
    for name, work in {
        "linear, C=1": lambda: linear_probe(x, y, test_x, test_y),
        "45 values of C": lambda: sweep_c(x[half], y[half], x[~half], y[~half]),
        "k-NN": lambda: knn_classify(x, y, test_x, test_y),
    }.items():
        spent, _ = clocked(work)
        print(
            f"{name:16} {spent:6.2f} s   extraction is {100 * seconds / (seconds + spent):.1f} % of the two"
        )


def clocked(work: Callable) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def sweep_on_gpu(device: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(200, size=55_000)
    x = (
        rng.standard_normal((55_000, 2048), dtype=np.float32)
        + rng.standard_normal((200, 2048), dtype=np.float32)[y] / 8
    )
    start = time.perf_counter()
    found = sweep_c(x[:50_000], y[:50_000], x[50_000:], y[50_000:], C_VALUES, device=device)
    print(
        f"{len(C_VALUES)} values of C on 50,000 x 2,048, 200 classes: {time.perf_counter() - start:.1f} s, {found.c=}"
    )


if __name__ == "__main__":
    main()
