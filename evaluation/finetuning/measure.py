"""The protocol `finetune`: every test image once, none dropped, by the weights that the training
names.

Selection is the last step, or the best of a validation split; the test split decides nothing.
"""

import numpy as np
import torch

from evaluation.heads import Head
from evaluation.metrics import bootstrap_interval, per_class_mean, topk_hits
from evaluation.results import Measure
from ssl_parts.data import ImageBank
from ssl_parts.encoders import evaluating
from ssl_parts.errors import DataError

PROTOCOL, VERSION = "finetune", 1


def classify(head: Head, bank: ImageBank, batch: int = 64) -> np.ndarray:
    """Logits float32 (N,C) of every image of the bank, in its order, at its size and without
    augmentation.
    """
    device = next(head.parameters()).device
    logits = []
    for start in range(0, len(bank), batch):
        images = bank.images(np.arange(start, min(start + batch, len(bank))))
        with evaluating(head), torch.inference_mode():
            logits.append(head(images.to(device).float().div(255)).float().cpu())
    return torch.cat(logits).numpy()


def measure_classifier(
    head: Head, bank: ImageBank, batch: int = 64, seed: int = 0
) -> dict[str, Measure]:
    """top1 (with a 95 % bootstrap interval), top5 and per_class, the mean of the classes'
    accuracies.

    Raises:
        DataError: an image without a label, or with one that the head does not know.
    """
    labels = bank.labels
    if labels.min() < 0 or labels.max() >= head.classes:
        raise DataError(
            f"{bank.dataset.name} ({bank.dataset.split}) has labels {labels.min()}.."
            f"{labels.max()}, but the head knows classes 0..{head.classes - 1}"
        )
    logits = classify(head, bank, batch)
    hits = topk_hits(logits, labels, 1)
    return {
        "top1": Measure.of([hits.mean()], bootstrap_interval(hits, seed=seed)),
        "top5": Measure.of([topk_hits(logits, labels, 5).mean()]),
        "per_class": Measure.of([per_class_mean(hits, labels)]),
    }
