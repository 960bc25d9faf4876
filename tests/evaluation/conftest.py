"""Tiny stand-ins with the real interface: a data set of coloured squares, and a real, small timm
encoder.
"""

import numpy as np
import pytest
import torch

from ssl_parts.data import ImageBank, Sample
from ssl_parts.encoders import build_encoder
from tests.heads.conftest import make_encoder

__all__ = ["make_encoder"]  # a fixture of another folder

COLOURS = torch.tensor(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40], [40, 200, 200], [200, 40, 200]]
)


class Squares:
    """Grey images with a left and a right square; the class decides the left colour. Parts: 1
    left, 2 right.
    """

    def __init__(
        self, images=24, classes=4, split="train", size=32, multi_label=False, labels=None
    ):
        self.name, self.split, self.size, self.multi_label = "squares", split, size, multi_label
        self.classes = [f"class {c}" for c in range(classes)]
        self.part_names, self.keypoint_names = ["left", "right"], []
        self.labels = np.arange(images) % classes if labels is None else np.asarray(labels)
        self.paths = [f"squares/{split}/{i}.png" for i in range(images)]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        rng = torch.Generator().manual_seed(i + 1000 * (self.split == "test"))
        image = torch.randint(100, 140, (3, self.size, self.size), generator=rng)
        mask = torch.zeros(self.size, self.size, dtype=torch.uint8)
        top = int(torch.randint(2, self.size // 2, (1,), generator=rng))
        side = self.size // 3
        for part, left in ((1, 2), (2, self.size - side - 2)):
            colour = (
                COLOURS[int(self.labels[i]) % 6] if part == 1 else torch.tensor([250, 250, 250])
            )
            image[:, top : top + side, left : left + side] = colour[:, None, None]
            mask[top : top + side, left : left + side] = part
        planes = torch.stack([mask == 1, mask == 2]).to(torch.uint8)
        return Sample(
            image.to(torch.uint8),
            int(self.labels[i]),
            self.paths[i],
            None,
            planes if self.multi_label else mask,
        )


@pytest.fixture
def squares():
    """Builds a bank: squares(images=24, classes=4, split="train", ...)."""
    return lambda **options: ImageBank(Squares(**options), 32, "squash")


@pytest.fixture(scope="session")
def encoder():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.25, last_stage="layer2").eval()


@pytest.fixture(scope="session")
def vit():
    torch.manual_seed(0)
    return build_encoder(
        "vit_tiny_patch16_224", img_size=32, depth=4, embed_dim=48, num_heads=2
    ).eval()
