"""Part segmentation with an upsampling decoder, on a frozen or a fine-tuned encoder (METHODS
§1.6).

Differences from the released code are deliberate: the epoch is chosen on validation images that
are neither in the training nor in the test images (or not chosen at all), and mirrored images swap
what is left and right.

Shapes: n training images, B of a batch, D channels, h x w cells of a map, K scores (ids with
background, or P parts).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.features import frozen
from evaluation.metrics import iou_of_counts, mean_iou
from evaluation.part_segmentation import pixel_counts
from ssl_parts.data.flip import swap_ids
from ssl_parts.data.records import IGNORE
from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError, TrainingError


@dataclass
class SegmenterConfig:
    """How decoder (and encoder) are trained."""

    finetune: bool = True  # train the encoder too; otherwise its features are computed once
    # channels of the decoder's blocks, each doubles the size; null: [256, 128, 64]
    widths: list[int] | None = None
    epochs: int = 200
    lr: float = 1e-5  # Adam's, for everything that is trained; constant
    batch: int = 8
    flip: float = 0.5  # probability of mirroring
    freeze_norm: bool = False  # fine-tuning keeps the encoder's batch-norm statistics
    validate_every: int = 5  # epochs between looks at the validation images, where there are any

    def check(self) -> None:
        """ConfigError for the first value out of range."""
        for key in ("epochs", "batch", "validate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(
                    f"protocol.segmenter.{key}={getattr(self, key)} must be at least 1"
                )
        if not 0 < self.lr < 1:
            raise ConfigError(f"protocol.segmenter.lr={self.lr} must lie between 0 and 1")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"protocol.segmenter.flip={self.flip} is a probability")
        if self.widths is not None and (not self.widths or min(self.widths) < 1):
            raise ConfigError(
                f"protocol.segmenter.widths={self.widths}: give one or more channel counts, or null"
            )


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
        with frozen(self.encoder), frozen(self.decoder):
            maps = self.encoder(images_BCHW.to(device).float() / 255).maps[self.encoder.last_stage]
            return self.decoder(maps.float())

    def counts(self, chunks: Iterator[LabelledImages]) -> np.ndarray:
        """Counts (2, K) over the pixels of all chunks."""
        return sum(pixel_counts(self.scores(chunk.images), chunk.masks) for chunk in chunks)


def train_segmenter(
    encoder: Encoder,
    train: LabelledImages,
    validation: LabelledImages | None,
    scores: int,
    config: SegmenterConfig,
    *,
    pairs: Sequence[tuple[int, int]] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Segmenter:
    """Train on `train`; take the epoch that is best on `validation`, or the last one where there
    is none.

    Args:
        encoder: left as it is; fine-tuning works on a copy.
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
        _Tuned(encoder, train, pairs, device, config)
        if config.finetune
        else _Kept(encoder, train, pairs, device)
    )
    parameters = [*decoder.parameters(), *source.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    best: tuple[float, int, dict, dict] | None = None
    for epoch in range(1, config.epochs + 1):
        _epoch(decoder, source, optimizer, len(train), config, np.random.default_rng([seed, epoch]))
        look = epoch % config.validate_every == 0 or epoch == config.epochs
        if validation is not None and look:
            value = _validate(
                Segmenter(source.encoder, decoder, epoch, float("nan")), validation, config.batch
            )
            if best is None or value > best[0]:
                best = (
                    value,
                    epoch,
                    copy.deepcopy(decoder.state_dict()),
                    copy.deepcopy(source.state()),
                )
    if best is None:
        return Segmenter(source.encoder, decoder, config.epochs, float("nan"))
    decoder.load_state_dict(best[2])
    source.load(best[3])
    return Segmenter(source.encoder, decoder, best[1], best[0])


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
    source: "_Tuned | _Kept",
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
    """Mean over the pixels that are judged, at the masks' size: cross-entropy for ids (B, H, W),
    binary for parts (B, P, H, W). 0 where no pixel is judged."""
    large = F.interpolate(
        scores_BKhw.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False
    )
    if masks.ndim == 4:
        return F.binary_cross_entropy_with_logits(large, masks.float())
    if (masks == IGNORE).all():
        return large.sum() * 0
    return F.cross_entropy(large, masks.long(), ignore_index=IGNORE)


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
    """Masks of the mirrored images; pairs are mask ids 1..P (plane id - 1 of a multi-label mask)."""
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


class _Tuned:
    """Maps of a copy of the encoder that learns."""

    def __init__(
        self,
        encoder: Encoder,
        data: LabelledImages,
        pairs: Sequence[tuple[int, int]],
        device: object,
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
        for module in self.encoder.modules():
            if self.freeze_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def batch(self, rows: np.ndarray, flags: np.ndarray) -> tuple[Tensor, Tensor]:
        images, masks = mirror(self.data.images[rows], self.data.masks[rows], flags, self.pairs)
        maps = self.encoder(images.to(self.device).float() / 255).maps[self.encoder.last_stage]
        return maps.float(), masks.to(self.device)

    def state(self) -> dict:
        return self.encoder.state_dict()

    def load(self, state: dict) -> None:
        self.encoder.load_state_dict(state)


class _Kept:
    """Maps of the frozen encoder, computed once for the images and for their mirror images."""

    def __init__(
        self,
        encoder: Encoder,
        data: LabelledImages,
        pairs: Sequence[tuple[int, int]],
        device: object,
        batch: int = 32,
    ) -> None:
        self.encoder, self.device = encoder.to(device), device
        self.masks = torch.stack([data.masks, mirrored_masks(data.masks, pairs)])
        sides = []
        with frozen(encoder):
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
