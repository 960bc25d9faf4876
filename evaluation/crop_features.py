"""Part-guided embeddings of a bank: pooled features averaged over the image and crops of what
discovery finds in it, without labels and without training.

`pooling=crops` averages image, mirror image, found object and found parts;
`pooling=crops:image+object` other passes (`ssl_parts.parts.crops_config.PASSES`).
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.features import FeatureTable, check_finite
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.read_ahead import read_ahead
from ssl_parts.encoders import Encoder
from ssl_parts.parts.config import DatasetConfig, PartsConfig, VotesConfig
from ssl_parts.parts.crops_config import STANDARD_PASSES, CropsConfig
from ssl_parts.parts.passes import Squares, embed_passes
from ssl_parts.parts.store import PartStore

CROPS = "crops"


def is_crops(pooling: str) -> bool:
    """Whether a pooling averages crops."""
    return pooling.partition(":")[0] == CROPS


def crops_of(pooling: str) -> CropsConfig:
    """The passes that a pooling names.

    Raises:
        ConfigError: an unknown pass.

    Example:
        >>> crops_of("crops:image+flip").passes
        ['image', 'flip']
    """
    _, given, names = pooling.partition(":")
    config = CropsConfig(passes=names.split("+") if given else list(STANDARD_PASSES))
    config.check(f"pooling={pooling}")
    return config


def parts_to_crop() -> PartsConfig:
    """The discovery behind the crops: that of the recipe `folder`."""
    return DatasetConfig(size=28, k=8, foreground=VotesConfig())


def describe_crops(pooling: str, learned_on: Any) -> dict[str, Any]:
    """Everything that the crops depend on beside encoder and images, as JSON."""
    parts = asdict(parts_to_crop()) if crops_of(pooling).needs_parts else None
    return {
        "crops": asdict(crops_of(pooling)),
        "parts": parts,
        "learned on": learned_on if parts else None,
    }


def extract_crop_features(
    encoder: Encoder,
    bank: ImageBank,
    pooling: str,
    store: PartStore | None,
    *,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> FeatureTable:
    """Average the frozen encoder's pooled features over the passes of `pooling`.

    Args:
        store: part ids of the bank's images; None where no pass needs them.

    Raises:
        ConfigError: an unknown pass. DataError: non-finite features, with the image's path.
    """
    config = crops_of(pooling)
    detailed = bank.resized(round(config.detail * bank.size)) if config.needs_detail else None

    def read(chunk: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return bank.images(chunk), None if detailed is None else detailed.images(chunk)

    order = np.arange(len(bank))
    chunks = [order[i : i + batch] for i in range(0, len(order), batch)]
    pooled = []
    for chunk, (whole_B3SS, detailed_B3TT) in read_ahead(read, chunks):
        squares = Squares(
            whole_B3SS.to(device),
            detailed_B3TT,
            None if store is None else store.batch(chunk),
            None if store is None else store.background,
            torch.from_numpy(chunk),
        )
        vectors_BD = embed_passes(encoder.to(device), squares, config)
        check_finite(vectors_BD, chunk, bank)
        pooled.append(vectors_BD.cpu().numpy())
    return FeatureTable(np.concatenate(pooled), np.asarray(bank.labels))
