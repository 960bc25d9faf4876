"""UPM (Zhang et al., arXiv 1902.09941): the object and its parts are mined without any
label from a pretrained encoder's maps, then a multi-stream classifier reads the image, the object
and the parts.

From the abstract: mining, clustering, part boxes, the three kinds of streams; the mining rule is
that of the same group's arXiv 1902.09968. The cut of the support map, the sizes of the streams and
both ways to join them are reconstructed from the abstract. Formulas: docs/method.md, section 5.

Shapes: B images, P parts, S = 2 + P streams, D channels, C classes, H W a map.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.heads.config import Fusion, Streams, UPMConfig
from evaluation.heads.head import Head, Localization, fp32
from evaluation.heads.regions import crop_boxes, crop_pixels, squares_around
from ssl_parts.encoders import Encoder
from ssl_parts.parts.foreground.mined_boxes import MinedObject, mine_object, part_boxes


class UPM(Head[UPMConfig]):
    """L = CE(joined streams) + 0.5 mean over streams of CE(stream).

    Mining reads a copy of the encoder as it came in, so no label ever moves a box; with a frozen
    encoder it is that encoder. The object's crop is the square around its box. A part that is not
    there has zeros in the joined features, and neither votes nor counts in the loss.
    localize: the support map, the object's box and the parts' boxes.
    """

    config_class = UPMConfig

    def __init__(
        self, encoder: Encoder, classes: int, config: UPMConfig, frozen: bool = False
    ) -> None:
        super().__init__(encoder, classes, config, frozen)
        self.stage = config.stage or encoder.stages[-2 if encoder.last_stage == "head" else -1]
        encoder.check_stages((self.stage,))
        self.miner = None if frozen else copy.deepcopy(encoder).requires_grad_(False).eval()
        kinds = ("object", "part") if config.streams is Streams.separate else ()
        self.further = nn.ModuleDict({kind: copy.deepcopy(encoder) for kind in kinds})
        streams = 2 + config.parts
        self.stream_classifiers = nn.ModuleList(
            nn.Linear(encoder.feature_dim, classes) for _ in range(streams)
        )
        if config.fusion is Fusion.concat:
            self.classifier = nn.Linear(streams * encoder.feature_dim, classes)
        else:
            self.vote = nn.Parameter(torch.zeros(streams))

    def train(self, mode: bool = True) -> "UPM":
        super().train(mode)
        if self.miner is not None:
            self.miner.eval()
        if self.frozen:
            self.further.eval()
        return self

    def encoders(self) -> list[Encoder]:
        return [self.encoder, *(cast(Encoder, each) for each in self.further.values())]

    def forward(self, images: Tensor) -> Tensor:
        features_BSD, valid_BS = self._streams(images)
        return self._join(features_BSD, self._each(features_BSD), valid_BS)

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        features_BSD, valid_BS = self._streams(images)
        logits_BSC = self._each(features_BSD)
        joined = F.cross_entropy(fp32(self._join(features_BSD, logits_BSC, valid_BS)), labels)
        streams = stream_loss(logits_BSC, labels, valid_BS)
        return {
            "loss": joined + self.config.stream_weight * streams,
            "joined": joined,
            "streams": streams,
        }

    @torch.no_grad()
    def localize(self, images: Tensor) -> Localization:
        mined, parts_BP4, valid_BP = self.mine(images)
        return Localization(
            maps={"support": mined.support_BHW},
            boxes={"object": mined.boxes_B4[:, None], "parts": parts_BP4},
            valid={"object": mined.found_B[:, None], "parts": valid_BP},
        )

    @torch.no_grad()
    def mine(self, images: Tensor) -> tuple[MinedObject, Tensor, Tensor]:
        """Object, boxes of its parts (B,P,4) and which of them there are (B,P), from the encoder
        as it came in.
        """
        map_BDHW = (self.miner or self.encoder)(images, (self.stage,)).maps[self.stage].float()
        mined = mine_object(map_BDHW, self.config.support)
        return mined, *part_boxes(
            map_BDHW, mined, self.config.parts, self.config.gamma, self.config.part_side
        )

    def _streams(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of image, object and parts (B,S,D) and which of them there are (B,S)."""
        mined, parts_BP4, valid_BP = self.mine(images)
        centres_B2 = (mined.boxes_B4[:, :2] + mined.boxes_B4[:, 2:]) / 2
        object_B4 = squares_around(
            centres_B2, (mined.boxes_B4[:, 2:] - mined.boxes_B4[:, :2]).amax(1)
        )
        crops = {
            "object": (object_B4[:, None], self.config.object_size),
            "part": (parts_BP4, self.config.part_size),
        }
        features = [self.encoder(images).pooled[:, None]]
        for kind, (boxes_BR4, share) in crops.items():
            encoder = cast(Encoder, self.further[kind]) if self.further else self.encoder
            pixels = crop_boxes(images, boxes_BR4, crop_pixels(encoder, images.shape[-1], share))
            features.append(encoder(pixels).pooled.unflatten(0, boxes_BR4.shape[:2]))
        always_B2 = torch.ones(len(images), 2, dtype=torch.bool, device=images.device)
        return torch.cat(features, 1), torch.cat([always_B2, valid_BP], 1)

    def _each(self, features_BSD: Tensor) -> Tensor:
        return torch.stack(
            [classify(features_BSD[:, s]) for s, classify in enumerate(self.stream_classifiers)], 1
        )

    def _join(self, features_BSD: Tensor, logits_BSC: Tensor, valid_BS: Tensor) -> Tensor:
        if self.config.fusion is Fusion.concat:
            return self.classifier((features_BSD * valid_BS[..., None]).flatten(1))
        return weighted_vote(logits_BSC, self.vote, valid_BS)


def stream_loss(logits_BSC: Tensor, labels_B: Tensor, valid_BS: Tensor) -> Tensor:
    """Mean over the streams that are there of each one's cross-entropy."""
    S = logits_BSC.shape[1]
    each_BS = F.cross_entropy(
        fp32(logits_BSC).flatten(0, 1), labels_B.repeat_interleave(S), reduction="none"
    ).view(-1, S)
    return (each_BS * valid_BS).sum() / valid_BS.sum().clamp(min=1)


def weighted_vote(logits_BSC: Tensor, weights_S: Tensor, valid_BS: Tensor) -> Tensor:
    """log of the mean of the streams' softmax, weighted by the softmax of `weights_S` over those
    that are there.
    """
    share_BS = fp32(weights_S).masked_fill(~valid_BS, -1e9).log_softmax(-1)
    return (fp32(logits_BSC).log_softmax(-1) + share_BS[..., None]).logsumexp(1)
