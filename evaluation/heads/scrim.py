"""SCRIM (Multimedia Tools and Applications, 2024): two attention modules whose part
features are contrasted by class and module over a class-balanced batch, and fine regions ranked by
how well they tell the class.

From the abstract: dual coarse and fine localization, contrast by class and module over many
images, ranking of regions by their informativeness. Layers, anchors, the three n-pair terms
and all weights are reconstructed from the abstract. Formulas: docs/method.md, section 4.

Shapes: B images, G modules (groups), M regions of a group, R = G*M, D channels, C classes, A
anchors, H W a map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from evaluation.heads.config import SCRIMConfig
from evaluation.heads.head import Head, Localization, fp32
from evaluation.heads.regions import (
    attention_inside,
    choose_apart,
    crop_boxes,
    crop_pixels,
    square_anchors,
)
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError


class SCRIM(Head[SCRIMConfig]):
    """L = CE(all) + CE(global) + CE(regions) + ranking + 0.5 contrast.

    Logits are those of [global, a_1, a_2, regions]. Train it with batches of several images of
    each of several classes (data order P x Q): a batch without two images of a class leaves the
    strongest of the contrast's terms without positives. The contrast sees one process's batch.
    localize: each module's attention and its regions.

    Raises:
        ConfigError: bad options. The first forward pass raises it for more regions than the map
            has anchors.
    """

    config_class = SCRIMConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: SCRIMConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, config, frozen)
        stage = encoder.last_stage
        dim = encoder.dims[stage]
        self.coarse = nn.ModuleList(
            GatedAttention(dim, config.hidden) for _ in range(config.modules)
        )
        self.navigators = nn.ModuleList(_navigator(dim, config) for _ in range(config.modules))
        self.region_classifier = nn.Linear(encoder.feature_dim, classes)
        self.global_classifier = nn.Linear(encoder.feature_dim, classes)
        regions = config.modules * config.regions
        self.classifier = nn.Linear(
            encoder.feature_dim * (1 + regions) + dim * config.modules, classes
        )

    def forward(self, images: Tensor) -> Tensor:
        return self._logits(self._encode(images))

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        encoded = self._encode(images)
        region_loss_BR = region_losses(self.region_classifier(encoded.regions_BRD), labels)
        terms = {
            "all": F.cross_entropy(fp32(self._logits(encoded)), labels),
            "global": F.cross_entropy(fp32(self.global_classifier(encoded.global_BD)), labels),
            "regions": (region_loss_BR * encoded.valid_BR).sum()
            / encoded.valid_BR.sum().clamp(min=1),
            "ranking": ranking_hinge(
                encoded.scores_BGM,
                region_loss_BR.view_as(encoded.scores_BGM),
                encoded.valid_BR.view_as(encoded.scores_BGM),
                self.config.margin,
            ),
            "contrast": class_module_contrast(encoded.parts_BGD, labels, self.config.temperature),
        }
        weights = {"ranking": self.config.ranking, "contrast": self.config.contrast}
        first, *others = [weights.get(name, 1.0) * term for name, term in terms.items()]
        total = sum(others, start=first)
        return {"loss": total, **terms}

    @torch.no_grad()
    def localize(self, images: Tensor) -> Localization:
        encoded = self._encode(images)
        M = self.config.regions
        maps, boxes, valid = {}, {}, {}
        for g in range(self.config.modules):
            maps[f"attention {g + 1}"] = encoded.attention_BGHW[:, g]
            boxes[f"regions {g + 1}"] = encoded.boxes_BR4[:, g * M : (g + 1) * M]
            valid[f"regions {g + 1}"] = encoded.valid_BR[:, g * M : (g + 1) * M]
        return Localization(maps, boxes, valid)

    def _encode(self, images: Tensor) -> "Encoded":
        features = self.encoder(images)
        map_BDHW = features.maps[self.encoder.last_stage]
        attention_BGHW = torch.stack([module(map_BDHW) for module in self.coarse], 1)
        parts_BGD = torch.einsum("bdhw,bghw->bgd", fp32(map_BDHW), attention_BGHW)
        boxes_BR4, scores_BGM, valid_BR = self._regions(map_BDHW.detach(), attention_BGHW.detach())
        crops = crop_boxes(
            images, boxes_BR4, crop_pixels(self.encoder, images.shape[-1], self.config.region_size)
        )
        regions_BRD = self.encoder(crops).pooled.unflatten(0, valid_BR.shape)
        return Encoded(
            features.pooled, attention_BGHW, parts_BGD, boxes_BR4, scores_BGM, valid_BR, regions_BRD
        )

    def _regions(self, map_BDHW: Tensor, attention_BGHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes of all groups' regions (B,R,4), their scores (B,G,M) and which of them keep apart
        (B,R).
        """
        height, width = map_BDHW.shape[-2:]
        anchors_A4 = square_anchors(height, width, self.config.sides, map_BDHW.device)
        if self.config.modules * self.config.regions > len(anchors_A4):
            raise ConfigError(
                f"head.modules={self.config.modules} x head.regions={self.config.regions} regions, "
                f"but a map of {height} x {width} cells has {len(anchors_A4)} anchors: use larger "
                "images or fewer regions"
            )
        areas_A = (anchors_A4[:, 2] - anchors_A4[:, 0]) * (anchors_A4[:, 3] - anchors_A4[:, 1])
        scores = []
        for g, navigator in enumerate(self.navigators):
            # What evenly spread attention would put into a region is taken off, or the largest
            # side would always win.
            gain_BA = attention_inside(attention_BGHW[:, g], anchors_A4) - areas_A
            scores.append(
                fp32(navigator(map_BDHW)).flatten(1) + self.config.attention_gain * gain_BA
            )
        scores_BGA = torch.stack(scores, 1)
        picks_BGM, valid_BGM = choose_apart(
            scores_BGA.detach(),
            box_iou(anchors_A4, anchors_A4),
            self.config.regions,
            self.config.overlap,
        )
        return (
            anchors_A4[picks_BGM].flatten(1, 2),
            scores_BGA.gather(2, picks_BGM),
            valid_BGM.flatten(1),
        )

    def _logits(self, encoded: "Encoded") -> Tensor:
        regions_BRD = encoded.regions_BRD * encoded.valid_BR[..., None]
        return self.classifier(
            torch.cat([encoded.global_BD, encoded.parts_BGD.flatten(1), regions_BRD.flatten(1)], 1)
        )


@dataclass(frozen=True)
class Encoded:
    """What SCRIM computes of a batch: features, attention, regions."""

    global_BD: Tensor
    attention_BGHW: Tensor
    parts_BGD: Tensor
    boxes_BR4: Tensor
    scores_BGM: Tensor
    valid_BR: Tensor
    regions_BRD: Tensor


class GatedAttention(nn.Module):
    """softmax over positions of w(tanh(Vx) * sigmoid(Ux)), fp32, (B,H,W) that sums to 1."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(dim, hidden, 1), nn.Conv2d(dim, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)

    def forward(self, map_BDHW: Tensor) -> Tensor:
        score_B1HW = self.score(self.value(map_BDHW).tanh() * self.gate(map_BDHW).sigmoid())
        return fp32(score_B1HW).flatten(1).softmax(-1).view(score_B1HW[:, 0].shape)


def _navigator(dim: int, config: SCRIMConfig) -> nn.Sequential:
    """One informativeness score per side and cell, (B,len(sides),H,W): the order of
    `square_anchors`.
    """
    return nn.Sequential(
        nn.Conv2d(dim, config.hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(config.hidden, len(config.sides), 1),
    )


def region_losses(logits_BRC: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy (B,R) of each region alone: low where it tells the class."""
    R = logits_BRC.shape[1]
    return F.cross_entropy(
        fp32(logits_BRC).flatten(0, 1), labels_B.repeat_interleave(R), reduction="none"
    ).view(-1, R)


def ranking_hinge(
    scores_BGM: Tensor, losses_BGM: Tensor, valid_BGM: Tensor, margin: float = 1.0
) -> Tensor:
    """Scores follow -loss: for regions i, j of one image and group with loss_i < loss_j, max(0,
    margin - (s_i - s_j)).

    The mean over these pairs of valid regions, 0 without any; no gradient goes into the losses.
    """
    losses_BGM = losses_BGM.detach()
    both_BGMM = valid_BGM[..., :, None] & valid_BGM[..., None, :]
    pairs_BGMM = (losses_BGM[..., :, None] < losses_BGM[..., None, :]) & both_BGMM
    hinge_BGMM = (margin - (scores_BGM[..., :, None] - scores_BGM[..., None, :])).clamp(min=0)
    return (hinge_BGMM * pairs_BGMM).sum() / pairs_BGMM.sum().clamp(min=1)


def class_module_contrast(parts_BGD: Tensor, labels_B: Tensor, temperature: float) -> Tensor:
    """Class x module contrast: the sum of three n-pair terms over anchors (image, module), by
    cosine / temperature.

    Nearest are the same class and module; then the same class of the other module, and the same
    module of other classes; then the rest. With positives P and negatives N, an anchor's term is
    mean_{p in P} log(1 + sum_{n in N} exp(s_n - s_p)):

    1. P = same class, same module; N = all others.
    2. P = other class, same module; N = other class, other module.
    3. P = same class, other module; N = other class, other module.

    Each term is the mean over the anchors that have positives and negatives, 0 where none has.
    """
    B, G, _ = parts_BGD.shape
    z_ND = F.normalize(fp32(parts_BGD).flatten(0, 1), dim=-1)
    with torch.autocast(z_ND.device.type, enabled=False):
        cosine_NN = z_ND @ z_ND.T / temperature
    class_N = labels_B.repeat_interleave(G)
    module_N = torch.arange(G, device=labels_B.device).repeat(B)
    same_class = class_N[:, None] == class_N
    same_module = module_N[:, None] == module_N
    self_NN = torch.eye(B * G, dtype=torch.bool, device=labels_B.device)
    nearest, rest = same_class & same_module & ~self_NN, ~same_class & ~same_module
    terms = [
        n_pair(cosine_NN, nearest, ~(same_class & same_module)),
        n_pair(cosine_NN, ~same_class & same_module, rest),
        n_pair(cosine_NN, same_class & ~same_module, rest),
    ]
    return torch.stack(terms).sum()


def n_pair(similarity_NN: Tensor, positives_NN: Tensor, negatives_NN: Tensor) -> Tensor:
    """Mean over anchors with both of mean over positives p of log(1 + sum over negatives n of
    exp(s_n - s_p)).
    """
    # A finite stand-in for -inf: log-sum-exp of no negatives at all must have a gradient of 0, not
    # NaN.
    negative_N1 = similarity_NN.masked_fill(~negatives_NN, -1e9).logsumexp(1, keepdim=True)
    each_NN = F.softplus(negative_N1 - similarity_NN) * positives_NN
    count_N = positives_NN.sum(1)
    counts_N = (count_N > 0) & negatives_NN.any(1)
    per_anchor_N = each_NN.sum(1) / count_N.clamp(min=1)
    return (per_anchor_N * counts_N).sum() / counts_N.sum().clamp(min=1)
