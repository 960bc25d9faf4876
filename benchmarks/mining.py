"""CorLoc of mined objects: the share of images whose mined box has an IoU above 0.5 with the
annotated one.

    python benchmarks/mining.py --root DIR --weights FILE          # CUB (also a part of it), MobileNetV2, 224 px

Boxes are annotations, so this measures mining and chooses nothing at run time. The default support
was chosen on the training images of CUB's first ten classes. Beside it stand the whole image and a
centred box of 0.8 of the side. The sibling paper (arXiv 1902.09968) reports 80.45 on CUB, with a
VGG and larger photographs.
"""

import argparse

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ssl_parts.data import ImageBank, build_dataset
from ssl_parts.encoders import build_encoder
from ssl_parts.parts.foreground.mined_boxes import mine_object


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of CUB-200-2011")
    parser.add_argument(
        "--weights", required=True, help="of mobilenetv2_100 with pad_type=same, inputs in [-1, 1]"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--stages", nargs="+", default=["stage4", "stage5", "head"])
    parser.add_argument("--supports", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.4])
    given = parser.parse_args()
    dataset = build_dataset("cub", given.root, given.split, allow_partial=True)
    bank = ImageBank(dataset, given.size, "squash")
    options = {"mean": [0.5] * 3, "std": [0.5] * 3, "pad_type": "same"}
    encoder = build_encoder("mobilenetv2_100", given.weights, **options).eval()
    truth_N4 = torch.tensor([bank.sample(i).box for i in range(len(bank))]) / given.size
    for name, box in {
        "whole image": [0.0, 0.0, 1.0, 1.0],
        "centred 0.8": [0.1, 0.1, 0.9, 0.9],
    }.items():
        say(name, torch.tensor(box).expand_as(truth_N4), truth_N4)
    boxes = {(stage, support): [] for stage in given.stages for support in given.supports}
    for start in range(0, len(bank), 32):
        images = bank.images(np.arange(start, min(start + 32, len(bank)))).float() / 255
        with torch.inference_mode():
            maps = encoder(images, given.stages).maps
        for stage, support in boxes:
            boxes[stage, support].append(mine_object(maps[stage], support).boxes_B4)
    for (stage, support), found in boxes.items():
        say(f"{stage}, support {support}", torch.cat(found), truth_N4)


def say(name: str, boxes_N4: Tensor, truth_N4: Tensor) -> None:
    iou_N = torch.stack(
        [box_iou(a[None], b[None])[0, 0] for a, b in zip(boxes_N4, truth_N4, strict=True)]
    )
    print(
        f"{name:<24} CorLoc {100 * (iou_N > 0.5).float().mean():5.1f}   mean IoU {100 * iou_N.mean():5.1f}"
    )


if __name__ == "__main__":
    main()
