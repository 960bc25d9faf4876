"""Part segmentation with an upsampling decoder, on a frozen or a fine-tuned encoder, after the
released code of PARTICLE (arXiv 2309.13822; docs/method.md, section 1.6).

Differences from the released code are deliberate: the epoch is chosen on validation images that
are neither in the training nor in the test images (or not chosen at all), and mirrored images swap
what is left and right.

Shapes: n training images, B of a batch, D channels, h x w cells of a map, K scores (ids with
background, or P parts).
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.config import SegmenterConfig
from evaluation.metrics import iou_of_counts, mean_iou
from evaluation.part_segmentation import pixel_counts
from ssl_parts.data.flip import swap_ids
from ssl_parts.encoders import Encoder, evaluating
from ssl_parts.encoders.modes import keep_norm_statistics
from ssl_parts.errors import TrainingError


class UpsamplingDecoder(nn.Module):
    """Blocks of (x2 bilinear, 3x3 convolution, batch norm, ReLU), then a 1x1 convolution to K
    scores.
    """

    def __init__(self, dim: int, scores: int, widths: Sequence[int] = (256, 128, 64)) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in widths:
            up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            blocks += [
                up,
                nn.Conv2d(dim, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            dim = width
        self.blocks = nn.Sequential(*blocks)
        self.classify = nn.Conv2d(dim, scores, 1)

    def forward(self, map_BDhw: Tensor) -> Tensor:
        """(B, K, h * 2^blocks, w * 2^blocks)."""
        return self.classify(self.blocks(map_BDhw))


@dataclass(frozen=True)
class LabelledImages:
    """Images with masks: uint8 (n, 3, S, S) and uint8 (n, S, S) of ids or (n, P, S, S) of 0/1."""

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Segmenter:
    """A trained network. epoch: the one it was taken from; validation: its mIoU then, NaN where
    none was done.
    """

    encoder: Encoder
    decoder: UpsamplingDecoder
    epoch: int
    validation: float

    def scores(self, images_BCHW: Tensor) -> Tensor:
        """Logits of uint8 images, at the decoder's size."""
        device = next(self.decoder.parameters()).device
        with evaluating(self.encoder, self.decoder), torch.inference_mode():
            maps = self.encoder(images_BCHW.to(device).float() / 255).maps[self.encoder.last_stage]
            return self.decoder(maps.float())

    def counts(self, chunks: Iterable[LabelledImages]) -> np.ndarray:
        """Count intersections and unions (2, K) over the pixels of all chunks."""
        each = [pixel_counts(self.scores(chunk.images), chunk.masks) for chunk in chunks]
        return np.sum(each, axis=0)


def train_segmenter(
    encoder: Encoder,
    train: LabelledImages,
    validation: LabelledImages | None,
    scores: int,
    config: SegmenterConfig,
    *,
    finetune: bool,
    pairs: Sequence[tuple[int, int]] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Segmenter:
    """Train on `train`; take the epoch that is best on `validation`, or the last one where there
    is none.

    Args:
        encoder: left as it is; fine-tuning works on a copy.
        finetune: train the encoder too; otherwise its features are computed once.
        scores: K: number of ids with the background, or of parts for multi-label masks.
        pairs: mask ids that change places when an image is mirrored
            (`ssl_parts.data.flip.left_right_pairs`, + 1).
        seed: of the decoder's start, the order and the flips.

    Raises:
        ConfigError: settings out of range. TrainingError: a loss that is not finite.
    """
    config.check()
    torch_seed = torch.Generator().manual_seed(seed)
    decoder = _new_decoder(encoder, scores, config, torch_seed).to(device)
    source = (
        _TunedMaps(encoder, train, pairs, device, config)
        if finetune
        else _FrozenMaps(encoder, train, pairs, device)
    )
    parameters = [*decoder.parameters(), *source.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    best: _Kept | None = None
    for epoch in range(1, config.epochs + 1):
        _epoch(decoder, source, optimizer, len(train), config, np.random.default_rng([seed, epoch]))
        due = epoch % config.validate_every == 0 or epoch == config.epochs
        if validation is not None and due:
            segmenter = Segmenter(source.encoder, decoder, epoch, float("nan"))
            value = _validate(segmenter, validation, config.batch)
            if best is None or value > best.value:
                best = _Kept.of(value, epoch, decoder, source)
    if best is None:
        return Segmenter(source.encoder, decoder, config.epochs, float("nan"))
    decoder.load_state_dict(best.decoder)
    source.load(best.encoder)
    return Segmenter(source.encoder, decoder, best.epoch, best.value)


@dataclass(frozen=True)
class _Kept:
    """Weights of the epoch that was best on the validation images so far, and its mIoU."""

    value: float
    epoch: int
    decoder: dict[str, Tensor]
    encoder: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        value: float,
        epoch: int,
        decoder: UpsamplingDecoder,
        source: "_TunedMaps | _FrozenMaps",
    ) -> "_Kept":
        states = copy.deepcopy(decoder.state_dict()), copy.deepcopy(source.state())
        return cls(value, epoch, *states)


def _new_decoder(
    encoder: Encoder, scores: int, config: SegmenterConfig, generator: torch.Generator
) -> UpsamplingDecoder:
    widths = config.widths or [256, 128, 64]
    # torch's layers draw from the global generator: lend it a seed of our own
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return UpsamplingDecoder(encoder.dims[encoder.last_stage], scores, widths)


def _epoch(
    decoder: UpsamplingDecoder,
    source: "_TunedMaps | _FrozenMaps",
    optimizer: torch.optim.Optimizer,
    n: int,
    config: SegmenterConfig,
    rng: np.random.Generator,
) -> None:
    decoder.train()
    source.train()
    order, mirrored = rng.permutation(n), rng.random(n) < config.flip
    for start in range(0, n, config.batch):
        rows = order[start : start + config.batch]
        maps, masks = source.batch(rows, mirrored[rows])
        loss = segmentation_loss(decoder(maps), masks)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the segmentation loss is {loss.item()}; lower protocol.segmenter.lr={config.lr}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def segmentation_loss(scores_BKhw: Tensor, masks: Tensor) -> Tensor:
    """Mean over pixels, at the masks' size: cross-entropy for ids (B, H, W), binary for parts (B,
    P, H, W).
    """
    large = F.interpolate(
        scores_BKhw.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False
    )
    if masks.ndim == 4:
        return F.binary_cross_entropy_with_logits(large, masks.float())
    return F.cross_entropy(large, masks.long())


def mirror(
    images: Tensor, masks: Tensor, flags: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """The flagged images and masks mirrored, with left and right changed over."""
    flags_B = torch.as_tensor(np.asarray(flags, dtype=bool))
    swapped = mirrored_masks(masks, pairs)
    shape = [-1] + [1] * (masks.ndim - 1)
    return (
        torch.where(flags_B.view(-1, 1, 1, 1), images.flip(-1), images),
        torch.where(flags_B.view(shape), swapped, masks),
    )


def mirrored_masks(masks: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Masks of mirrored images; pairs are mask ids 1..P (plane id - 1 of a multi-label mask)."""
    if masks.ndim == 3:
        return swap_ids(masks.flip(-1), pairs)
    order = list(range(masks.shape[1]))
    for a, b in pairs:
        order[a - 1], order[b - 1] = b - 1, a - 1
    return masks.flip(-1)[:, order]


def _validate(segmenter: Segmenter, images: LabelledImages, batch: int) -> float:
    pieces = zip(images.images.split(batch), images.masks.split(batch))
    counts = segmenter.counts(LabelledImages(*piece) for piece in pieces)
    return mean_iou(iou_of_counts(counts), background=True)


class _TunedMaps:
    """Maps of a copy of the encoder that learns."""

    def __init__(
        self,
        encoder: Encoder,
        data: LabelledImages,
        pairs: Sequence[tuple[int, int]],
        device: str | torch.device,
        config: SegmenterConfig,
    ) -> None:
        self.encoder = copy.deepcopy(encoder).to(device).requires_grad_(True)
        self.data, self.pairs, self.device, self.freeze_norm = (
            data,
            pairs,
            device,
            config.freeze_norm,
        )

    def parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def train(self) -> None:
        self.encoder.train()
        if self.freeze_norm:
            keep_norm_statistics(self.encoder)

    def batch(self, rows: np.ndarray, flags: np.ndarray) -> tuple[Tensor, Tensor]:
        images, masks = mirror(self.data.images[rows], self.data.masks[rows], flags, self.pairs)
        maps = self.encoder(images.to(self.device).float() / 255).maps[self.encoder.last_stage]
        return maps.float(), masks.to(self.device)

    def state(self) -> dict:
        return self.encoder.state_dict()

    def load(self, state: dict) -> None:
        self.encoder.load_state_dict(state)


class _FrozenMaps:
    """Maps of the frozen encoder, computed once for the images and for their mirror images."""

    def __init__(
        self,
        encoder: Encoder,
        data: LabelledImages,
        pairs: Sequence[tuple[int, int]],
        device: str | torch.device,
        batch: int = 32,
    ) -> None:
        self.encoder, self.device = encoder.to(device), device
        self.masks = torch.stack([data.masks, mirrored_masks(data.masks, pairs)])
        sides = []
        with evaluating(encoder), torch.inference_mode():
            for images in (data.images, data.images.flip(-1)):
                maps = [
                    encoder(b.to(device).float() / 255).maps[encoder.last_stage].cpu()
                    for b in images.split(batch)
                ]
                sides.append(torch.cat(maps).float())
        self.maps = torch.stack(sides).clone()

    def parameters(self) -> list[nn.Parameter]:
        return []

    def train(self) -> None:
        self.encoder.eval()

    def batch(self, rows: np.ndarray, flags: np.ndarray) -> tuple[Tensor, Tensor]:
        sides = torch.as_tensor(np.asarray(flags, dtype=np.int64))
        return self.maps[sides, rows].to(self.device), self.masks[sides, rows].to(self.device)

    def state(self) -> dict:
        return {}

    def load(self, state: dict) -> None:
        """The frozen encoder has not changed."""
