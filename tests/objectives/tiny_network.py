"""A network and two views that cost nothing, for every objective: one convolution, 4 images of 4
ids, in float32.
"""

import torch
from torch import nn

from ssl_parts.encoders import Features
from ssl_parts.objectives import METHODS, Objective, ObjectiveConfig, Targets
from ssl_parts.views import Views
from ssl_parts.views.config import CropConfig
from ssl_parts.views.geometry import plan_crops

K, PAIRS = 4, 4
SMALL = {
    "hidden": 12,
    "projection": 6,
    "samples": 3,
    "dino_prototypes": 10,
    "moco_queue": 16,
    "temperature": 0.2,
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
CASES = {name: {"method": name} for name in METHODS} | {
    "detcon-s": {"method": "detcon", "targets": Targets.student},
    "particle with all terms": {"queue": 20, "equivariance_weight": 0.5, "dino_weight": 1.0},
    "particle of the student": {
        "targets": Targets.student,
        "queue": 20,
        "equivariance_weight": 0.5,
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
        torch.rand(2, PAIRS, 3, 16, 16, generator=g),
        torch.randint(K, (2, PAIRS, 4, 4), generator=g),
    )
    ids[0, 3], ids[1, 3] = 1, 2
    theta = plan_crops(2 * PAIRS, CropConfig(scale=[0.4, 1.0]), g).view(2, PAIRS, 2, 3)
    priority = torch.rand(PAIRS, K, generator=g).expand(2, PAIRS, K)
    images, ids, theta, priority = (
        x[:, rows].flatten(0, 1) for x in (images, ids, theta, priority)
    )
    return Views(images, ids, theta, priority)


def build(name: str) -> tuple[Objective, nn.Module, nn.Module]:
    """Objective, student and a teacher with other weights, the same on every call."""
    torch.manual_seed(0)
    objective = Objective(config_of(name))
    student, teacher = (objective.network(TinyEncoder(), K, background=0) for _ in range(2))
    return objective, student, teacher.requires_grad_(False)


def run_step(
    objective, student, teacher, step: int, rows: slice = slice(None), progress: float = 0.5
):
    """Terms of one step; gradients are left in the student."""
    views = views_of(step, rows)
    inputs = (views.images_NCHW, views.ids_Ngg, views.priority_NK)
    seen = None
    if objective.has_teacher:
        with torch.no_grad():
            seen = teacher(*inputs, predict=False)
    terms = objective(student(*inputs), seen, None, views, progress)
    terms["loss"].backward()
    return {key: value.detach() for key, value in terms.items()}
