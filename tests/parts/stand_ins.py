"""An encoder and a bank of the real ones' interface, small enough to see through: the maps are
colours and blurs.
"""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ssl_parts.data.records import Sample


class TinyEncoder(nn.Module):
    """Maps are local means of fixed nonlinear functions of the colour, at strides 2, 4 and 8."""

    name, stages, last_stage = "tiny", ("fine", "middle", "coarse"), "coarse"
    dims, strides = {"fine": 6, "middle": 12, "coarse": 80}, {"fine": 2, "middle": 4, "coarse": 8}

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(self.dims[s], 3, 1, 1, generator=generator))
            for s in self.stages
        )
        self.dropout = nn.Dropout(0.5)  # must be off during discovery
        self.calls = []

    def forward(self, images_BCHW, stages=None):
        assert images_BCHW.dtype == torch.float32 and images_BCHW.max() <= 1
        self.calls.append(len(images_BCHW))
        maps = {}
        for stage, weight in zip(self.stages, self.weights):
            features = torch.cos(3 * F.conv2d(self.dropout(images_BCHW) - 0.5, weight))
            maps[stage] = F.avg_pool2d(features, self.strides[stage])
        return SimpleNamespace(maps={s: maps[s] for s in stages or (self.last_stage,)})

    def check_stages(self, stages):
        return tuple(stages)


class DiscBank:
    """Grey noise with a disc near the middle: left half red, right half blue (parts 1 and 2), or
    all red.
    """

    def __init__(self, count=20, size=32, seed=0, halves=True):
        self.halves = halves
        self.size, self.paths = size, [f"disc_{i}.png" for i in range(count)]
        self.reads = 0
        pictures, masks, boxes = zip(
            *(self._draw(np.random.default_rng([seed, i])) for i in range(count))
        )
        self.pixels, self.masks, self.boxes = torch.stack(pictures), torch.stack(masks), boxes

    def _draw(self, rng):
        y, x = np.mgrid[: self.size, : self.size] + 0.5
        middle, radius = (
            self.size / 2 + rng.normal(0, 0.06 * self.size, 2),
            rng.uniform(0.22, 0.3) * self.size,
        )
        disc = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius**2
        mask = np.where(disc, np.where(x < middle[0], 1, 2), 0)
        colours = np.array(
            [[110, 130, 120], [220, 40, 40], [40, 60, 220] if self.halves else [220, 40, 40]]
        )
        picture = np.clip(colours[mask] + rng.normal(0, 12, (self.size, self.size, 3)), 0, 255)
        box = (*(middle - radius), *(middle + radius))
        return (
            torch.from_numpy(picture.astype(np.uint8)).permute(2, 0, 1),
            torch.from_numpy(mask.astype(np.uint8)),
            box,
        )

    def __len__(self):
        return len(self.paths)

    def images(self, indices):
        self.reads += len(indices)
        return self.pixels[torch.as_tensor(np.asarray(indices))]

    def sample(self, i):
        x0, y0, x1, y1 = self.boxes[i]
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        keypoints = [[x0 + 3, middle[1], 1], [x1 - 3, middle[1], 1], [middle[0], -5, 1], [0, 0, 0]]
        mask, points = self.masks[i], torch.tensor(keypoints, dtype=torch.float32)
        return Sample(self.pixels[i], 0, self.paths[i], self.boxes[i], mask, points)
