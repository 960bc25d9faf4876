"""How good parts are by kind of feature and number: keypoints of birds, part masks of cars
(docs/method.md, section 6).

    python benchmarks/discovery_table.py --root DIR --weights FILE                    # DIR: CUB, or some of its classes
    python benchmarks/discovery_table.py --root DIR --weights FILE --data carparts
    python benchmarks/discovery_table.py ... --rows "single map" hypercolumn --k 8 --seeds 0

Each row is what `launch/discover.py` does with the words in `ROWS`. Foreground and parts are
learned on the training images with one clustering for all (parts=dataset), and judged on
the test images; mean over k-means seeds. MobileNetV2 at 224 px, images squashed to squares. Its
maps are kept in memory: about 1 MB an image.
"""

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from evaluation.discovered_parts import judge_parts
from ssl_parts.data import ImageBank, build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.encoders.encoder import Encoder, Features
from ssl_parts.parts import discover_parts
from ssl_parts.recipes.load import load_discovery
from ssl_parts.recipes.schemas import DiscoverConfig

# Co-segmentation is made for the fine grid of a ViT and groups of 30 images; a CNN's maps are
# coarser.
CNN = [
    "parts.facet=token",
    "parts.stride=0",
    "parts.size=28",
    "parts.foreground.size=28",
    "parts.foreground.every=25",
]
CNN += [
    "parts.crf.near=0.5",
    "parts.crf.reach=0.625",
    "parts.group=0",
    "parts.sample_points=128",
]
ROWS = {
    "raw colour": ["parts.features=colour"],
    "colour + xy": ["parts.features=colour", "parts.position=1"],
    "single map": [],
    "hypercolumn": ["parts.stages=[stage2,stage3,stage4,stage5]"],
    "co-segmentation": ["parts=cosegment", *CNN],
    "UPM mining": [
        "parts/foreground=mining",
        "parts.position=1",
        "parts.size=56",
    ],
    "single map, no foreground": ["parts/foreground=none"],
}
COLUMNS = {
    "cub": ["keypoint_nmi", "keypoint_ari", "keypoint_error", "corloc", "box_iou"],
    "carparts": [
        "foreground_nmi",
        "foreground_ari",
        "pixel_nmi",
        "pixel_ari",
        "image_nmi",
        "foreground_iou",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True)
    parser.add_argument(
        "--weights", required=True, help="of mobilenetv2_100 with pad_type=same, inputs in [-1, 1]"
    )
    parser.add_argument("--data", default="cub", choices=list(COLUMNS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--k", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--words",
        nargs="*",
        default=[],
        metavar="key=value",
        help="more words for launch/discover.py",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    shared = [
        f"data={given.data}",
        f"data.root={given.root}",
        "data.allow_partial=true",
        "data.fit=squash",
    ]
    shared += [
        "data.cache=memory",
        "encoder=mobilenetv2_100",
        f"encoder.weights={given.weights}",
        "parts=dataset",
    ]
    config = configured(shared)
    encoder = make_encoder(config.encoder)
    encoder.forward = remembering(encoder.forward)
    train, test = build_bank(config.data), build_bank(config.data, config.data.test_split)
    print(
        f"{given.data}: {len(train)} images learned from, {len(test)} judged on, seeds {given.seeds}",
        flush=True,
    )
    print(
        f"| features | k | {' | '.join(COLUMNS[given.data])} | s |\n|{' --- |' * (len(COLUMNS[given.data]) + 3)}"
    )
    for row in given.rows:
        for k in given.k:
            words = [
                w
                for w in shared
                if not (w == "parts=dataset" and any(x.startswith("parts=") for x in ROWS[row]))
            ]
            config = configured([*words, *ROWS[row], f"parts.k={k}", *given.words])
            began = time.perf_counter()
            found = [scores(encoder, train, test, config, seed) for seed in given.seeds]
            cells = [
                told([one[column] for one in found])
                for column in COLUMNS[given.data]
                if column in found[0]
            ]
            print(
                f"| {row} | {k} | {' | '.join(cells)} | {time.perf_counter() - began:.0f} |",
                flush=True,
            )


def configured(words: list[str]) -> DiscoverConfig:
    return load_discovery("default", words)


def scores(
    encoder: Encoder, train: ImageBank, test: ImageBank, config: DiscoverConfig, seed: int
) -> dict[str, float]:
    """Learned on the training images, judged on the test images."""
    config.parts.seed = seed
    learned = discover_parts(encoder, train, config.parts)
    found = discover_parts(encoder, test, config.parts, fitted=learned)
    return judge_parts(found, test, learned, train).as_dict()


def told(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def remembering(forward: Callable) -> Callable:
    """The encoder's forward pass, computed once for each batch and set of stages."""
    kept: dict[tuple, Features] = {}

    def remembered(images_BCHW: Tensor, stages: list[str]) -> Features:
        key = (hashlib.sha1(images_BCHW.numpy().tobytes()).digest(), *stages)
        if key not in kept:
            kept[key] = forward(images_BCHW, stages=stages)
        return kept[key]

    return remembered


if __name__ == "__main__":
    main()
