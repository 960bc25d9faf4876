"""PARTICLE's training step as one would write it from its paper (arXiv 2309.13822), without any
thought of speed.

Two views of each image by torchvision on PIL images, decoded anew each time; a forward pass for
each view and network, four in all; fp32, contiguous, DataParallel around the networks; labels
written out for all pairs of parts of the batch; the teacher averaged weight by weight.
`benchmarks/training.py` measures ours against it; the loss is the same.

Shapes: B images, M parts, D channels.
"""

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from ssl_parts.objectives import Network

HIDDEN = -1e9


class TwoViews(Dataset):
    """Two augmented views of an image file, and the part ids of each, as in the released code."""

    def __init__(self, paths: list[Path], ids_NHW: Tensor, size: int) -> None:
        self.paths, self.ids_NHW, self.size = paths, ids_NHW, size
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        blur = v2.GaussianBlur(23, (0.1, 2.0))
        solarise = v2.RandomSolarize(128, 0.2)
        self.colour = (
            v2.Compose([jitter, blur]),
            v2.Compose([jitter, v2.RandomApply([blur], 0.1), solarise]),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        image = Image.open(self.paths[i]).convert("RGB")
        ids = Image.fromarray(self.ids_NHW[i].numpy()).resize(image.size, Image.Resampling.NEAREST)
        (one, ids_one), (two, ids_two) = (self.view(image, ids, colour) for colour in self.colour)
        return one, two, ids_one, ids_two

    def view(
        self, image: Any, ids: Any, colour: v2.Transform
    ) -> tuple[Tensor, Tensor]:  # images of PIL, which torchvision's types leave out
        window = v2.RandomResizedCrop(self.size).make_params([image])
        box = {key: window[key] for key in ("top", "left", "height", "width")}
        box["size"] = [self.size, self.size]
        image = TF.resized_crop(image, **box, interpolation=v2.InterpolationMode.BICUBIC)
        ids = TF.resized_crop(ids, **box, interpolation=v2.InterpolationMode.NEAREST)
        if random.random() < 0.5:
            image, ids = TF.hflip(image), TF.hflip(ids)
        return TF.to_dtype(TF.pil_to_tensor(colour(image)), scale=True), TF.pil_to_tensor(ids)[0]


def step_loss(
    student: nn.Module, teacher: nn.Module, batch: tuple[Tensor, ...], tau: float = 0.1
) -> Tensor:
    """The loss of one batch of (view 1, view 2, ids 1, ids 2, priorities): four forward passes."""
    one, two, ids_one, ids_two, priority = batch
    q1, q2 = student(one, ids_one, priority), student(two, ids_two, priority)
    with torch.no_grad():
        t1, t2 = (
            teacher(one, ids_one, priority, predict=False),
            teacher(two, ids_two, priority, predict=False),
        )
    one, two = q1.parts, q2.parts
    targets = t1.parts.vectors_BMD, t2.parts.vectors_BMD
    ids, valid = (one.ids_BM, two.ids_BM), (one.valid_BM, two.valid_BM)
    first = one_way(one.vectors_BMD, targets[1], targets[0], ids, valid, tau)
    second = one_way(two.vectors_BMD, targets[0], targets[1], ids[::-1], valid[::-1], tau)
    return first + second


def one_way(
    q_BMD: Tensor,
    other_BMD: Tensor,
    own_BMD: Tensor,
    ids: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    tau: float,
) -> Tensor:
    """Anchors of one view against all targets, with labels of shape (B, M, 2, B, M) written out."""
    q, other, own = (F.normalize(x, dim=-1) for x in (q_BMD, other_BMD, own_BMD))
    logits = torch.stack([torch.einsum("bmd,und->bmun", q, t) for t in (other, own)], 2) / tau
    same_image = torch.eye(len(q), dtype=torch.bool, device=q.device)[:, None, :, None]
    positive = (
        same_image & (ids[0][:, :, None, None] == ids[1]) & valid[0][:, :, None, None] & valid[1]
    )
    itself = (
        same_image & (ids[0][:, :, None, None] == ids[0]) & valid[0][:, :, None, None] & valid[0]
    )
    hidden = torch.stack([(~valid[1]).expand_as(itself), itself | ~valid[0]], 2)
    log_p = logits.masked_fill(hidden, HIDDEN).flatten(2).log_softmax(-1)
    positives = positive.sum((2, 3), keepdim=True)
    labels = torch.stack(
        [positive / positives.clamp(min=1), torch.zeros_like(itself).float()], 2
    ).flatten(2)
    repeats = itself.sum((2, 3)).clamp(min=1)
    return (-(labels * log_p).sum(-1) / repeats).sum() / valid[0].sum()


class PlainLoop:
    """Networks, optimiser and one step."""

    def __init__(self, student: Network, teacher: Network, lr: float, momentum: float) -> None:
        self.student, self.teacher, self.momentum = (
            nn.DataParallel(student),
            nn.DataParallel(teacher),
            momentum,
        )
        trained = [p for p in student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained, lr, momentum=0.9, weight_decay=1.5e-6, foreach=False
        )

    def step(self, batch: tuple[Tensor, ...]) -> Tensor:
        loss = step_loss(self.student, self.teacher, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters()):
            mine.data = self.momentum * mine.data + (1 - self.momentum) * theirs.data
        return loss.detach()
