"""Frozen features of a bank: one vector per image, and dense maps where a protocol wants them.

Shapes: N images, B of a batch, D channels, g side of the dense grid, T tokens.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.bank import ImageBank
from ssl_parts.encoders import Encoder, Features, evaluating
from ssl_parts.encoders.finite import first_not_finite
from ssl_parts.errors import ConfigError, DataError
from ssl_parts.parts.dense.hypercolumn import hypercolumn

POOLINGS = ("pooled", "average", "cls", "cls+average", "last2", "last4")


@dataclass(frozen=True)
class FeatureTable:
    """Features in the order of the bank (or of the indices that were asked for).

    pooled: float32 (N, D). labels: int64 (N,), -1 where unlabelled. dense: float16 or float32 (N,
    D, g, g) by stage.
    """

    pooled: np.ndarray
    labels: np.ndarray
    dense: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pooled)

    def take(self, indices: np.ndarray) -> "FeatureTable":
        """The rows at these positions, in this order."""
        return FeatureTable(
            self.pooled[indices],
            self.labels[indices],
            {k: v[indices] for k, v in self.dense.items()},
        )


def iterate_features(
    encoder: Encoder,
    bank: ImageBank,
    stages: Sequence[str],
    indices: np.ndarray | None = None,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[np.ndarray, Features]]:
    """Yield (positions, features) per batch, in order; the next batch is decoded while this one is
    encoded.

    Raises:
        ConfigError: a stage that the encoder does not have.
    """
    encoder.check_stages(stages)
    order = np.arange(len(bank)) if indices is None else np.asarray(indices, dtype=np.int64)
    chunks = [order[i : i + batch] for i in range(0, len(order), batch)]
    encoder.to(device)
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(bank.images, chunk) for chunk in chunks[:1]]
        for number, chunk in enumerate(chunks):
            images_BCHW = ahead.pop().result()
            ahead += [pool.submit(bank.images, later) for later in chunks[number + 1 : number + 2]]
            with evaluating(encoder), torch.inference_mode():
                features = encoder(images_BCHW.to(device).float().div_(255), stages=list(stages))
            yield chunk, features


def extract_features(
    encoder: Encoder,
    bank: ImageBank,
    *,
    indices: np.ndarray | None = None,
    batch: int = 64,
    device: str | torch.device = "cpu",
    pooling: str = "pooled",
    stages: Sequence[str] | None = None,
    size: int | None = None,
    dtype: type = np.float16,
) -> FeatureTable:
    """Run the frozen encoder once over a bank: one view per image, no augmentation.

    Args:
        encoder: takes float RGB in [0, 1] and normalises it itself; its modes are restored
            afterwards.
        bank: images at the protocol's size and geometry.
        indices: positions in the bank, all by default.
        batch: images at a time; changes nothing but speed and memory.
        pooling: "pooled" (the encoder's own: average of the last map, or a ViT's final [CLS]),
            "average" of the last map, "cls", "cls+average" concatenated, "last2" / "last4":
            averages of the last stages concatenated.
        stages: maps to return as well; None for none.
        size: side of the grid they are resized to (bilinear); None keeps each map's own.
        dtype: of the dense maps, float16 or float32.

    Raises:
        ConfigError: unknown pooling or stage, or [CLS] pooling of an encoder that has no tokens.
        DataError: non-finite features, with the image's path.
    """
    wanted = list(dict.fromkeys([*(stages or ()), *pooling_stages(encoder, pooling)]))
    pooled, dense = [], {stage: [] for stage in stages or ()}
    order = np.arange(len(bank)) if indices is None else np.asarray(indices, dtype=np.int64)
    for chunk, features in iterate_features(encoder, bank, wanted, order, batch, device):
        vectors_BD = pool(features, encoder, pooling)
        check_finite(vectors_BD, chunk, bank)
        pooled.append(vectors_BD.cpu().numpy())
        for stage, maps in dense.items():
            map_BDgg = (
                features.maps[stage] if size is None else on_grid(features.maps, [stage], size)
            )
            maps.append(map_BDgg.cpu().numpy().astype(dtype))
    if not pooled:
        raise DataError(f"{bank.dataset.name} ({bank.dataset.split}): no image to take features of")
    stacked = {stage: np.concatenate(maps) for stage, maps in dense.items()}
    return FeatureTable(np.concatenate(pooled), np.asarray(bank.labels)[order], stacked)


def on_grid(maps: dict[str, Tensor], stages: Sequence[str], size: int) -> Tensor:
    """Maps of several stages resized bilinearly to one grid and concatenated, (B, sum of D, size,
    size).
    """
    points_BND = hypercolumn({stage: maps[stage] for stage in stages}, size, normalize=False)
    return points_BND.transpose(1, 2).unflatten(2, (size, size))


def pooling_stages(encoder: Encoder, pooling: str) -> tuple[str, ...]:
    """Stages that a pooling reads.

    Raises:
        ConfigError: unknown pooling, or more stages than there are.
    """
    last = re.fullmatch(r"last(\d+)", pooling)
    if last and 1 <= int(last[1]) <= len(encoder.stages):
        return tuple(encoder.stages[-int(last[1]) :])
    if last:
        raise ConfigError(
            f"pooling={pooling!r} but {encoder.name} has the stages {', '.join(encoder.stages)}"
        )
    if pooling not in POOLINGS:
        raise ConfigError(
            f"pooling={pooling!r} is unknown; choose one of {', '.join(POOLINGS)} (any number "
            "after last), or crops (image, mirror image, found object and parts)"
        )
    return (encoder.last_stage,)


def pool(features: Features, encoder: Encoder, pooling: str) -> Tensor:
    """float32 (B, D) of one batch; see `extract_features`."""
    if pooling == "pooled":
        return features.pooled.float()
    if pooling.startswith("last"):
        means = [
            features.maps[stage].float().mean((2, 3)) for stage in pooling_stages(encoder, pooling)
        ]
        return torch.cat(means, 1)
    average_BD = features.maps[encoder.last_stage].float().mean((2, 3))
    if pooling == "average":
        return average_BD
    prefix = getattr(encoder.model, "num_prefix_tokens", 0)
    if features.tokens is None or prefix == 0:
        raise ConfigError(
            f"pooling={pooling!r} needs a [CLS] token and {encoder.name} has none; use "
            "pooling=average"
        )
    cls_BD = features.tokens[:, 0].float()
    return cls_BD if pooling == "cls" else torch.cat([cls_BD, average_BD], 1)


def check_finite(values: Tensor, chunk: np.ndarray, bank: ImageBank) -> None:
    """Raise DataError with the path of the first image whose features (B, ...) are not finite."""
    first = first_not_finite(values)
    if first is not None:
        raise DataError(
            f"features of {bank.paths[int(chunk[first])]} are not finite: the encoder's weights "
            "are damaged or it has diverged"
        )
