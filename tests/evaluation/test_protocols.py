"""Every protocol through `run_protocol`; none of them chooses on test images."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from evaluation.config import SegmenterConfig
from evaluation.features import extract_features
from evaluation.linear_probe import linear_probe
from evaluation.protocols import PROTOCOLS, Bench, run_protocol
from evaluation.protocols.segmentation import labelled_splits
from evaluation.results import Row, read_results, save_results
from ssl_parts.configuration.compose import CONFIGS
from ssl_parts.errors import ConfigError, DataError
from ssl_parts.parts import DatasetConfig
from ssl_parts.recipes.load import load_evaluation

QUICK = {
    "linear": {"c": 0.5},
    "linear_swept": {"values": [1e-4, 1e-2, 1.0, 100.0], "validation": 0.3},
    "few_label": {"shots": [1.0, 3.0, 0.5], "draws": 2},
    "knn": {"k": [1, 5, 500]},
    "parts": {"shots": [3, 0], "draws": 2, "grid": 8},
    "parts_decoder": {
        "shots": [4],
        "folds": 2,
        "validation": 4,
        "segmenter": SegmenterConfig(epochs=6, lr=1e-2, batch=4, widths=[8], validate_every=1),
    },
    "parts_finetune": {
        "shots": [4],
        "folds": 2,
        "segmenter": SegmenterConfig(epochs=2, lr=1e-2, batch=4, widths=[8]),
    },
    "retrieval": {"images": 6, "draws": 2, "grid": 8, "k": 5},
    "overcluster": {"images": 6, "draws": 2, "grid": 8, "clusters": [6, 12]},
    "discovery": {"draws": 2, "parts": DatasetConfig(size=8, k=3)},
}


@pytest.fixture
def bench(encoder, squares):
    return Bench(encoder, squares(images=24), squares(images=12, split="test"), batch=8)


def quick(name):
    return PROTOCOLS[name](**QUICK[name])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_row_says_everything_and_survives_the_file(name, bench, tmp_path):
    (row,) = run_protocol(quick(name), bench, "arm", "abc123")
    assert (row.protocol, row.name, row.data, row.resolution, row.fit) == (
        name,
        "arm",
        "squares",
        32,
        "squash",
    )
    assert row.splits["test"] == 12
    assert 1 <= row.splits["train"] <= 24
    assert row.layer and row.selection and row.values
    assert row.encoder["hash"]
    assert all(0 <= m.mean <= 1 and m.unit == "fraction" for m in row.values.values())
    save_results(tmp_path / "results.json", "evaluate", [row])
    assert read_results(tmp_path / "results.json").rows == [row]
    assert json.loads(json.dumps(asdict(row)))["settings"].keys() >= QUICK[name].keys()


# What makes the protocols as they are shipped small. Whether and how they select stays as it is in
# configs/protocol.
SHRUNK = {
    "linear": [],
    "linear_swept": ["protocol.values=[1e-4,1e-2,1.0,100.0]"],
    "few_label": ["protocol.shots=[1.0,3.0,0.5]", "protocol.draws=2"],
    "knn": ["protocol.k=[1,5]"],
    "parts": ["protocol.shots=[3,0]", "protocol.draws=2", "protocol.grid=8"],
    "parts_decoder": [
        "protocol.shots=[8]",
        "protocol.folds=2",
        "protocol.validation=4",
        "protocol.segmenter.epochs=16",
        "protocol.segmenter.lr=0.003",
    ],
    "parts_finetune": ["protocol.folds=2"],
    "retrieval": ["protocol.images=6", "protocol.draws=2", "protocol.grid=8", "protocol.k=5"],
    "overcluster": [
        "protocol.images=6",
        "protocol.draws=2",
        "protocol.grid=8",
        "protocol.clusters=[6,12]",
    ],
    "discovery": ["protocol.draws=1", "protocol.parts.size=8", "protocol.parts.k=3"],
}
SEGMENTER = [
    f"protocol.segmenter.{k}"
    for k in ("epochs=4", "lr=0.01", "batch=4", "widths=[8]", "validate_every=1")
]
SELECTING = {"linear_swept", "parts_decoder", "parts_finetune"}


def shipped(name):
    trained = SEGMENTER if name in ("parts_decoder", "parts_finetune") else []
    return load_evaluation("default", [f"protocol={name}", *trained, *SHRUNK[name]]).protocol


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (CONFIGS / "protocol").glob("*.yaml"))
)
def test_nothing_is_chosen_on_test_images(name, bench, squares):
    """Every protocol of configs/protocol. Shuffled test labels and masks: other figures, the same
    choices.
    """
    honest = run_protocol(shipped(name), bench)[0]
    shuffled = replace(bench, test=_shuffled(squares(images=12, split="test")))
    other = run_protocol(shipped(name), shuffled)[0]
    assert ("chosen" in honest.settings and not honest.selection.startswith("none")) == (
        name in SELECTING
    )
    assert (honest.splits["val"] > 0) == (name in SELECTING)
    assert honest.selection == other.selection
    assert honest.settings == other.settings  # with what was chosen
    assert honest.splits == other.splits
    assert {k: m.mean for k, m in honest.values.items()} != {
        k: m.mean for k, m in other.values.items()
    }


def _shuffled(bank):
    """The same images; labels permuted, part ids 1 and 2 exchanged, masks upside down in every
    other image.
    """
    bank.labels = np.roll(bank.labels, 1)
    original = type(bank.dataset).__getitem__

    class Shuffled(type(bank.dataset)):
        def __getitem__(self, i):
            sample = original(self, i)
            mask = torch.tensor([0, 2, 1], dtype=torch.uint8)[sample.part_mask.long()]
            mask = mask.flip(-2) if i % 2 else mask
            return replace(sample, part_mask=mask)

    bank.dataset.__class__ = Shuffled
    return bank


def test_the_sweep_is_judged_on_training_images_only(bench, monkeypatch):
    """The choice is made before any test image is encoded."""
    import evaluation.protocols.classification as module

    seen = []
    original = module.sweep_c

    def watched(x, y, val_x, val_y, values, **options):
        seen.append(len(x) + len(val_x))
        return original(x, y, val_x, val_y, values, **options)

    monkeypatch.setattr(module, "sweep_c", watched)
    monkeypatch.setattr(
        bench.test,
        "images",
        lambda rows: pytest.fail("test images read") if not seen else _images(rows),
    )
    _images = type(bench.test).images.__get__(bench.test)
    (row,) = run_protocol(quick("linear_swept"), bench)
    assert seen == [24]
    assert row.splits == {"train": 24, "val": 8, "test": 12}


def test_the_swept_probe_is_the_probe_at_the_chosen_c(bench):
    (row,) = run_protocol(quick("linear_swept"), bench)
    accuracies = row.settings["chosen"]["validation_accuracies"]
    c = QUICK["linear_swept"]["values"][int(np.argmax(accuracies))]
    assert row.settings["chosen"]["c"] == c
    train, test = (
        extract_features(bench.encoder, bench.train),
        extract_features(bench.encoder, bench.test),
    )
    result = linear_probe(train.pooled, train.labels, test.pooled, test.labels, c)
    assert row.values["accuracy"].mean == pytest.approx(result.accuracy)


def test_folds_and_draws_keep_validation_apart():
    for shots, validation in ((0, 0), (5, 4)):
        splits = labelled_splits(23, shots, validation, 4, seed=1)
        for train, held in splits:
            assert not set(train) & set(held)
            assert max([*train, *held]) < 23
        if shots == 0:
            assert sorted(np.concatenate([held for _, held in splits])) == list(range(23))
        else:
            assert {(len(t), len(h)) for t, h in splits} == {(5, 4)}
    with pytest.raises(ConfigError, match="20 shots and 5 validation images of 23"):
        labelled_splits(23, 20, 5, 2, seed=0)


def test_ks_above_the_training_images_are_left_out(bench):
    (row,) = run_protocol(quick("knn"), bench)
    assert set(row.values) == {"accuracy@k=1", "accuracy@k=5"}


def test_all_images_validate_on_a_fold(bench):
    settings = QUICK["parts_decoder"] | {"shots": [0], "validation": 0, "folds": 3}
    (row,) = run_protocol(PROTOCOLS["parts_decoder"](**settings), bench)
    assert row.splits == {"train": 16, "val": 8, "test": 12}
    assert len(row.values["miou@all"].values) == 3
    assert len(row.settings["chosen"]["epochs"]["all"]) == 3


def test_rounds_of_a_run_are_judged_one_by_one(bench, tmp_path):
    from ssl_parts.parts import discover_parts

    for number in range(2):
        config = DatasetConfig(size=8, k=2 + number)
        discover_parts(
            bench.encoder, bench.train, config, tmp_path / f"round_{number:03d}" / "parts"
        )
    rows = run_protocol(PROTOCOLS["discovery"](run=str(tmp_path)), bench, "run")
    assert [row.name for row in rows] == ["run, round_000", "run, round_001"]
    assert rows[0].values["image_nmi"] != rows[1].values["image_nmi"]


def test_settings_out_of_range_and_missing_masks_are_named(bench):
    for name, settings in (
        ("linear", {"c": -1.0}),
        ("linear_swept", {"validation": 1.0}),
        ("few_label", {"shots": [2.5]}),
        ("parts_finetune", {"segmenter": SegmenterConfig(lr=2.0)}),
        ("few_label", {"shots": []}),
        ("knn", {"k": [0]}),
        ("parts", {"balance": 2.0}),
        ("parts_decoder", {"shots": [0], "folds": 1}),
        ("overcluster", {"clusters": [1]}),
        ("discovery", {"run": "nowhere"}),
    ):
        with pytest.raises(ConfigError, match=r"protocol\."):
            run_protocol(PROTOCOLS[name](**settings), bench)
    bench.train.dataset.part_names = []
    for name in ("parts", "parts_decoder", "retrieval", "overcluster"):
        with pytest.raises(DataError, match="no part masks"):
            run_protocol(quick(name), bench)


def test_hash_tells_encoders_and_settings_apart(bench):
    rows = [
        run_protocol(PROTOCOLS["knn"](k=[1], temperature=t), bench)[0] for t in (0.07, 0.07, 0.1)
    ]
    assert rows[0].config_hash == rows[1].config_hash != rows[2].config_hash
    assert isinstance(rows[0], Row)
