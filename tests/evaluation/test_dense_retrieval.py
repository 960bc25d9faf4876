from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluation.config import CellsConfig, RetrievalConfig
from evaluation.dense_retrieval import retrieve_labels
from evaluation.features import on_grid
from evaluation.masks import cell_shares, read_masks
from evaluation.over_clustering import segment_by_clusters
from ssl_parts.errors import ConfigError, DataError

STAGES, GRID = ["layer1", "layer2"], 8
CELLS = CellsConfig(layers=STAGES, grid=GRID)


def cells(encoder, bank, rows):
    """Unit features (N, D) by the definition, and id shares (N, 3)."""
    with torch.no_grad():
        maps = encoder(bank.images(rows).float() / 255, stages=STAGES).maps
    units = [
        F.normalize(on_grid(maps, [s], GRID), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
        for s in STAGES
    ]
    shares = (
        cell_shares(read_masks(bank, np.asarray(rows)), 3, GRID).permute(0, 2, 3, 1).flatten(0, 2)
    )
    return torch.cat(units, 1).numpy() / np.sqrt(2), shares.numpy()


def iou(scores, masks, classes=3):
    """Pixel by pixel after bilinear resizing."""
    n = len(masks)
    maps = torch.tensor(scores).float().view(n, GRID, GRID, classes).permute(0, 3, 1, 2)
    pred = F.interpolate(maps, size=masks.shape[-2:], mode="bilinear").argmax(1).numpy()
    true = masks.numpy()
    return [
        ((pred == k) & (true == k)).sum() / ((pred == k) | (true == k)).sum()
        for k in range(classes)
    ]


def test_retrieval_against_brute_force(encoder, squares):
    train, test, rows = squares(images=8), squares(images=4, split="test"), np.array([0, 3, 5])
    config = RetrievalConfig(layers=STAGES, grid=GRID, k=7, temperature=0.1)
    found = retrieve_labels(encoder, train, test, rows, config, batch=3)
    keys, shares = cells(encoder, train, rows)
    queries, truth = cells(encoder, test, range(4))
    scores, nearest = [], []
    for query in queries:
        cosine = keys @ query
        order = np.argsort(-cosine)[:7]
        weight = np.exp(cosine[order] / 0.1)
        scores.append((weight[:, None] * shares[order]).sum(0) / weight.sum())
        nearest.append(shares[order[0]].argmax())
    expected = iou(np.array(scores), read_masks(test, np.arange(4)))
    assert found.iou_per_class == pytest.approx(expected, abs=0.01)
    assert found.miou == pytest.approx(np.mean(expected[1:]), abs=0.01)
    true = truth.argmax(1)
    right = [np.mean(np.array(nearest)[true == k] == k) for k in (1, 2)]
    assert found.precision == pytest.approx(np.mean(right), abs=0.02)


def test_clusters_are_named_by_training_masks_only(encoder, squares):
    train, test, rows = squares(images=8), squares(images=4, split="test"), np.arange(6)
    found = segment_by_clusters(encoder, train, test, rows, 80, CELLS)
    assert found.miou > 0.2
    for i in range(4):  # test masks that say something else change the figure, not the names
        read_masks(test, np.array([i]))
    blank = squares(images=4, split="test")
    original = type(blank.dataset).__getitem__
    swapped = _with_masks(blank, original, lambda mask: (3 - mask) * (mask > 0))
    other = segment_by_clusters(encoder, train, swapped, rows, 80, CELLS)
    assert other.iou_per_class[0] == pytest.approx(found.iou_per_class[0])
    assert other.miou < found.miou


def _with_masks(bank, original, change):
    class Changed(type(bank.dataset)):
        def __getitem__(self, i):
            sample = original(self, i)
            return replace(sample, part_mask=change(sample.part_mask).to(torch.uint8))

    bank.dataset.__class__ = Changed
    return bank


def test_as_many_clusters_as_cells_is_the_nearest_neighbour(encoder, squares):
    train, test = squares(images=3), squares(images=3, split="test")
    rows = np.array([1])
    found = segment_by_clusters(encoder, train, test, rows, GRID * GRID, CELLS)
    keys, shares = cells(encoder, train, rows)
    queries, _ = cells(encoder, test, range(3))
    names = np.eye(3)[shares.argmax(1)]
    expected = iou(names[(queries @ keys.T).argmax(1)], read_masks(test, np.arange(3)))
    assert found.iou_per_class == pytest.approx(expected, abs=0.05)


def test_batches_change_nothing_and_a_memory_is_a_choice(encoder, squares):
    train, test, rows = squares(images=8), squares(images=5, split="test"), np.arange(8)
    config = RetrievalConfig(layers=STAGES, grid=GRID, k=5)
    found = [retrieve_labels(encoder, train, test, rows, config, batch=b) for b in (2, 64)]
    assert found[0].miou == pytest.approx(found[1].miou, abs=1e-3)
    small = retrieve_labels(encoder, train, test, rows, replace(config, memory=40))
    assert small.miou != found[0].miou


def test_errors_name_what_is_wrong(encoder, squares):
    train, test = squares(images=4), squares(images=2, split="test")
    with pytest.raises(ConfigError, match="k=0"):
        retrieve_labels(encoder, train, test, np.arange(2), RetrievalConfig(k=0))
    with pytest.raises(ConfigError, match="clusters=999"):
        segment_by_clusters(encoder, train, test, np.arange(2), 999, CELLS)
    with pytest.raises(DataError, match="overlapping parts"):
        both = [squares(images=4, split=s, multi_label=True) for s in ("train", "test")]
        retrieve_labels(encoder, *both, np.arange(2))
