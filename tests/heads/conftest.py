"""Small encoders of each family with random weights, and a tiny one whose maps are set by hand."""

import pytest
import torch
from torch import nn

from ssl_parts.encoders import Features, build_encoder

FAMILIES = {
    "resnet": ("resnet18", {"small": True, "width": 0.125}),
    "strided_resnet": ("resnet18", {"width": 0.125}),
    "mobilenet": ("mobilenetv2_035", {}),
    "convnext": ("convnext_atto", {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}),
    "vit": ("vit_tiny_patch16_224", {"embed_dim": 48, "depth": 6, "num_heads": 3}),
}


class ConvPair(nn.Module):
    """The encoder interface with two plain convolutions: strides 2 and 8, so the stages' strides
    differ by 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name, self.stages, self.last_stage, self.feature_dim = (
            "conv_pair",
            ("fine", "coarse"),
            "coarse",
            12,
        )
        self.dims, self.strides = {"fine": 6, "coarse": 12}, {"fine": 2, "coarse": 8}
        self.model = nn.ModuleList([nn.Conv2d(3, 6, 2, stride=2), nn.Conv2d(6, 12, 4, stride=4)])
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]))
        self.register_buffer("std", torch.full((3,), 0.5))

    def check_stages(self, stages):
        return tuple(stages)

    def forward(self, images, stages=None):
        fine = self.model[0]((images - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)).relu()
        coarse = self.model[1](fine).relu()
        maps = {"fine": fine, "coarse": coarse}
        return Features({s: maps[s] for s in stages or ("coarse",)}, coarse.mean((2, 3)))


@pytest.fixture
def make_encoder():
    def make(family: str = "conv_pair", seed: int = 0):
        torch.manual_seed(seed)
        if family == "conv_pair":
            return ConvPair()
        name, options = FAMILIES[family]
        return build_encoder(name, **options)

    return make


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 64, 64, generator=generator), torch.tensor([0, 0, 1, 2])
