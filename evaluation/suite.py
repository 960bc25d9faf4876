"""The short look that ends every run: linear probe with all and with few labels, and few-shot part
segmentation.

It is the same for every arm of a run: the same images, draws and settings, so differences are
paired.
"""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.features import extract_features, pooling_stages
from evaluation.linear_probe import few_label_indices, linear_probe
from evaluation.part_segmentation import few_shot_part_segmentation
from evaluation.plan import SuitePlan, plan_suite
from evaluation.results import Measure
from ssl_parts.data import DataConfig, ImageBank, build_bank
from ssl_parts.encoders import Encoder, encoder_hash
from ssl_parts.errors import ConfigError

COLUMNS = {
    "linear": "linear, all labels",
    "linear_few": "linear, few labels",
    "part_miou": "part mIoU",
}


@dataclass
class EvaluationConfig:
    """What is measured at the end of a run. Fixed numbers, nothing is selected, so no validation
    images are needed.
    """

    # --- what
    linear: bool = True  # linear probe with all labels
    shots: int = 5  # labelled images of each class in the few-label probe; 0 leaves it out
    draws: int = 5  # of the few labelled images, averaged
    part_shots: int = 32  # images with masks in the part segmentation; 0 leaves it out
    part_draws: int = 3
    seed: int = 0  # of the draws: the same for all arms and runs
    # --- how: changes results
    pooling: str = "pooled"  # evaluation.features.POOLINGS
    # features to zero mean and unit deviation before the probe; the paper uses raw ones
    standardize: bool = True
    c: float = 1.0  # of the logistic regression; the paper's value
    # stages under the part decoder; [] for all
    part_layers: list[str] = field(default_factory=list)
    part_grid: int = 16  # cells a side on which it works
    part_weight_decay: float = 0.01
    part_balance: float = 0.5  # small parts weigh more: share ** -part_balance
    # --- changes speed only
    batch: int = 128

    def check(self) -> None:
        """ConfigError for a value out of range."""
        for key in ("shots", "part_shots", "seed"):
            if getattr(self, key) < 0:
                raise ConfigError(f"evaluation.{key}={getattr(self, key)} must be at least 0")
        for key in ("draws", "part_draws", "part_grid", "batch"):
            if getattr(self, key) < 1:
                raise ConfigError(f"evaluation.{key}={getattr(self, key)} must be at least 1")
        for key in ("c", "part_weight_decay"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ConfigError(
                    f"evaluation.{key}={getattr(self, key)} must be a positive number"
                )
        if not 0 <= self.part_balance <= 1:
            raise ConfigError(f"evaluation.part_balance={self.part_balance} must lie in [0, 1]")


@dataclass(frozen=True)
class Banks:
    """Images that evaluation reads: labelled training images and the images that are reported on."""

    train: ImageBank
    test: ImageBank

    @classmethod
    def of(
        cls, data: DataConfig, train: ImageBank | None = None, cache_dir: Path | None = None
    ) -> "Banks":
        """The banks of a run's data; give its training bank if there is one already, and its
        folder for cache=disk.
        """
        train = train or build_bank(data, cache_dir=cache_dir)
        return cls(train, build_bank(data, data.test_split, cache_dir=cache_dir))

    @property
    def labelled(self) -> bool:
        return len(self.train.dataset.classes) > 1 and bool((self.train.labels >= 0).all())

    @property
    def masked(self) -> bool:
        return len(self.train.dataset.part_names) > 0


def evaluate_encoder(
    encoder: Encoder,
    data: Banks | DataConfig,
    config: EvaluationConfig | None = None,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Every protocol that the data set has annotations for.

    Args:
        data: the banks, or the data part of a configuration (then they are opened here).
        device: the encoder's own by default.

    Returns:
        plain JSON: "values" name → mean, sd, values (`Measure`), with "linear", "linear_few",
        "part_miou" and "part_miou_with_background" where they apply; "note", the protocol in a
        sentence; "settings", "encoder" and "seconds".

    Raises:
        ConfigError: settings out of range.
        DataError: features that are not finite, a damaged image or mask.
    """
    began = time.monotonic()
    config = config or EvaluationConfig()
    config.check()
    banks = data if isinstance(data, Banks) else Banks.of(data)
    plan = plan_suite(banks.train, banks.test, config.linear, config.shots, config.part_shots)
    device = device or next(encoder.parameters()).device
    values: dict[str, Measure] = {}
    if plan.linear:
        values |= _linear(encoder, banks, plan, config, device)
    if plan.part_shots:
        values |= _parts(encoder, banks, plan, config, device)
    return {
        "values": {key: asdict(value) for key, value in values.items()},
        "note": describe_suite(encoder, banks, plan, config, values),
        "settings": asdict(config),
        "encoder": {"name": encoder.name, "hash": encoder_hash(encoder)},
        "seconds": round(time.monotonic() - began, 2),
    }


def _linear(
    encoder: Encoder,
    banks: Banks,
    plan: SuitePlan,
    config: EvaluationConfig,
    device: str | torch.device,
) -> dict[str, Measure]:
    options = {"batch": config.batch, "device": device, "pooling": config.pooling}
    train, test = (
        extract_features(encoder, banks.train, **options),
        extract_features(encoder, banks.test, **options),
    )

    test_x, test_y = test.pooled[plan.test_rows], test.labels[plan.test_rows]

    def probe(rows: np.ndarray) -> Any:
        x, y = train.pooled[rows], train.labels[rows]
        return linear_probe(
            x, y, test_x, test_y, config.c, standardize=config.standardize, device=device
        )

    values = {}
    if config.linear:
        result = probe(plan.train_rows)
        values["linear"] = Measure.of([result.accuracy], result.interval)
    if config.shots:
        y = train.labels[plan.train_rows]
        draws = [
            few_label_indices(y, config.shots, config.seed + r, fewer=True)
            for r in range(config.draws)
        ]
        values["linear_few"] = Measure.of([probe(plan.train_rows[rows]).accuracy for rows in draws])
    return values


def _parts(
    encoder: Encoder,
    banks: Banks,
    plan: SuitePlan,
    config: EvaluationConfig,
    device: str | torch.device,
) -> dict[str, Measure]:
    result = few_shot_part_segmentation(
        encoder,
        banks.train,
        banks.test,
        plan.part_shots if config.part_shots <= len(banks.train) else None,
        config.seed,
        draws=config.part_draws,
        stages=config.part_layers or None,
        grid=config.part_grid,
        weight_decay=config.part_weight_decay,
        balance=config.part_balance,
        batch=config.batch,
        device=device,
    )
    return {
        "part_miou": Measure.of(result.draws),
        "part_miou_with_background": Measure.of(result.draws_with_background),
    }


def describe_suite(
    encoder: Encoder,
    banks: Banks,
    plan: SuitePlan,
    config: EvaluationConfig,
    values: dict[str, Measure],
) -> str:
    """What the values of `evaluate_encoder` are, in a sentence."""
    test = banks.test
    said = [
        f"{test.dataset.name}, {len(banks.train)} train and {len(test)} {test.dataset.split} images at {test.size} px"
    ]
    if "linear" in values or "linear_few" in values:
        scaling = "standardised" if config.standardize else "raw"
        layer = "+".join(pooling_stages(encoder, config.pooling))
        said.append(
            f"logistic regression, C={config.c:g}, {scaling} {config.pooling} features of {layer}"
        )
    if "linear_few" in values:
        said.append(f"few labels: {config.shots} a class, {config.draws} draws")
    if "part_miou" in values:
        layers = "+".join(config.part_layers or encoder.stages)
        cells, parts = f"{config.part_grid} x {config.part_grid}", len(test.dataset.part_names)
        said.append(
            f"parts: linear decoder on {layers} at {cells}, {plan.part_shots} images, "
            f"{config.part_draws if config.part_shots <= len(banks.train) else 1} draws"
        )
        said.append(f"mean IoU of {parts} parts over the data set")
    return "; ".join([*said, *plan.said, "in percent, nothing selected"]) + "."
