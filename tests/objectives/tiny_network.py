"""A network and two views that cost nothing, for every objective: one convolution, 4 images of 4
ids. Networks are in float64 (losses are in float32): sums in another order differ by little.
"""

import torch
from torch import nn

from ssl_parts.encoders import Features
from ssl_parts.objectives import MethodName, Objective, ObjectiveConfig, Targets, build_method
from ssl_parts.objectives.config import DinoConfig, MocoConfig, ParticleConfig
from ssl_parts.views import Views
from ssl_parts.views.config import CropConfig
from ssl_parts.views.geometry import plan_crops

K, PAIRS = 4, 4
SMALL = {
    "hidden": 12,
    "projection": 6,
    "samples": 3,
    "temperature": 0.2,
    "dino": DinoConfig(prototypes=10),
    "moco": MocoConfig(queue=16),
}


class TinyEncoder(nn.Module):
    """16 px to a 4x4 map of 8 channels, without batch norm."""

    last_stage, feature_dim, dims = "last", 8, {"last": 8}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images, stages=None):
        map_NDHW = torch.tanh(self.conv(images))
        return Features({"last": map_NDHW}, map_NDHW.mean((2, 3)))


# every method, and particle with all its terms: what two processes and a resume must leave
# unchanged
CASES = {method.value: {"method": method} for method in MethodName} | {
    "detcon-s": {"method": MethodName.detcon, "targets": Targets.student},
    "particle with all terms": {
        "particle": ParticleConfig(queue=20, equivariance_weight=0.5, dino_weight=1.0)
    },
    "particle of the student": {
        "targets": Targets.student,
        "particle": ParticleConfig(queue=20, equivariance_weight=0.5),
    },
}


def config_of(name: str) -> ObjectiveConfig:
    config = ObjectiveConfig(**(SMALL | CASES[name]))
    config.check()
    return config


def views_of(step: int, rows: slice = slice(None)) -> Views:
    """Both views of the pairs `rows` of one global batch; image 3 shares no part between its
    views.
    """
    g = torch.Generator().manual_seed(step)
    images, ids = (
        torch.rand(2, PAIRS, 3, 16, 16, generator=g).double(),
        torch.randint(K, (2, PAIRS, 4, 4), generator=g),
    )
    ids[0, 3], ids[1, 3] = 1, 2
    theta = plan_crops(2 * PAIRS, CropConfig(scale=[0.4, 1.0]), g).view(2, PAIRS, 2, 3)
    priority = torch.rand(PAIRS, K, generator=g).expand(2, PAIRS, K)
    images, ids, theta, priority = (
        x[:, rows].flatten(0, 1) for x in (images, ids, theta, priority)
    )
    return Views(images, ids, theta, priority)


class TinyImages:
    """Training images of which only the vectors that a method makes once are ever read."""

    k, background = K, 0

    def make_once(self, name, make):
        return torch.randn(PAIRS, 8, generator=torch.Generator().manual_seed(0))


def build(name: str) -> tuple[Objective, nn.Module, nn.Module]:
    """Objective, student and a teacher with other weights, the same on every call."""
    torch.manual_seed(0)
    objective = Objective(build_method(config_of(name)))
    build_network = objective.method.build_network
    student, teacher = (build_network(TinyEncoder(), K, background=0).double() for _ in range(2))
    objective.method.prepare(student, TinyImages())
    return objective, student, teacher.requires_grad_(False)


def run_step(
    objective, student, teacher, step: int, rows: slice = slice(None), progress: float = 0.5
):
    """Terms of one step; gradients are left in the student."""
    views, method, seen = views_of(step, rows), objective.method, None
    if method.has_teacher:
        with torch.no_grad():
            seen = method.encode(teacher, views, predict=False)
    numbers = torch.arange(PAIRS)[rows]
    terms = objective(method.encode(student, views), seen, None, views, progress, numbers)
    terms["loss"].backward()
    return {key: value.detach() for key, value in terms.items()}
