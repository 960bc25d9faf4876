"""A fine-tuning run: exact resume, selection without the test set, every test image, bad input,
what is written.
"""

import json
import os
import signal

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_run import logged

from evaluation.finetuning import train as module
from evaluation.finetuning.augment import augment
from evaluation.finetuning.compose import load_finetune
from evaluation.finetuning.config import AugmentConfig, FinetuneTrain, Order
from evaluation.finetuning.measure import classify, measure_classifier
from evaluation.finetuning.table import (
    ABLATIONS,
    ARMS,
    choose_arms,
    differences,
    finetune_table,
    overlap_table,
)
from evaluation.finetuning.train import Finetuner, lr_at
from evaluation.heads import HEADS, build_head
from evaluation.heads.config import Fusion, Streams
from evaluation.results import Measure, Row, read_results
from ssl_parts.data import ImageBank, build_dataset
from ssl_parts.encoders import build_encoder
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.stop import REQUEUE
from ssl_parts.errors import ConfigError, TrainingError

TINY = [
    "data.images=24", "data.test_images=21", "data.size=48", "data.species=4", "encoder.width=0.125",
    "train.batch=8", "train.epochs=2", "train.checkpoint_every=2", "train.log_every=1", "run.precision=fp32",
    "run.threads=1", "run.pictures=2", "run.overlap=5",
]  # fmt: skip


def config(folder, *more):
    return load_finetune("default", [f"run.dir={folder}", "run.name=tiny", *TINY, *more])


def run(folder, *more):
    AcceleratorState._reset_state(True)
    return module.finetune(config(folder, *more))


def left_by(folder):
    """Weights, and what was logged but for what depends on the machine."""
    return (folder / "tiny" / "head.safetensors").read_bytes(), logged(folder / "tiny")


def small_encoder():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.125)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("head", ["tdsa", "coarse2fine", "scrim"])
def test_killed_and_continued_is_bit_equal(head, tmp_path, monkeypatch):
    more = [f"head={head}", "train.ema=0.9"]
    run(tmp_path / "whole", *more)
    for death in (1, 4):
        count = {"steps": 0}

        def dying(self, step, count=count, death=death, update=Finetuner.update):
            update(self, step)
            count["steps"] += 1
            if count["steps"] == death:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(Finetuner, "update", dying)
            with pytest.raises(Killed):
                run(tmp_path / "killed", *more)
    run(tmp_path / "killed", *more)
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "whole")


def test_stopped_by_a_signal_and_continued_is_bit_equal(tmp_path, monkeypatch):
    def stopping(self, step, update=Finetuner.update):
        update(self, step)
        if step == 2:  # between two checkpoints
            os.kill(os.getpid(), signal.SIGTERM)

    run(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(Finetuner, "update", stopping)
        with pytest.raises(SystemExit) as left:
            run(tmp_path / "stopped")
    assert left.value.code == REQUEUE
    assert [row["step"] for row in logged(tmp_path / "stopped" / "tiny")] == [1, 2, 3]
    run(tmp_path / "stopped")
    assert left_by(tmp_path / "stopped") == left_by(tmp_path / "whole")


def test_a_full_disk_is_one_sentence_and_the_run_continues(tmp_path, monkeypatch):
    def full(self, **values):
        raise OSError(28, "No space left on device", str(self.path))

    with monkeypatch.context() as patched:
        patched.setattr(MetricsLog, "write", full)
        with pytest.raises(TrainingError, match=r"metrics\.jsonl cannot be written: No space left"):
            run(tmp_path)
    run(tmp_path)
    assert (tmp_path / "tiny" / "results.json").exists()


def test_what_a_run_leaves(tmp_path):
    results = run(tmp_path, "head=upm")
    folder = tmp_path / "tiny"
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "localization.png",
        "head.safetensors",
    ):
        assert (folder / name).is_file()
    row = read_results(folder / "results.json").rows[0]
    assert row.splits == {"train": 24, "val": 0, "test": 21} and row.protocol == "finetune"
    assert set(row.values) == {"top1", "top5", "per_class"} and row.selection == "none: last"
    assert set(results.extra["overlap"]) >= {"support", "object", "parts", "centre of the image"}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "lr", "images_per_second", "data_wait"} <= rows[-1].keys()
    before = (folder / "results.json").read_bytes()
    run(tmp_path, "head=upm")
    assert (folder / "results.json").read_bytes() == before
    with pytest.raises(ConfigError, match=r"train\.lr"):
        run(tmp_path, "head=upm", "train.lr=0.5")


def test_selection_looks_at_validation_images_only(tmp_path, monkeypatch):
    more = ["train.select=validation", "data.split=fit", "train.epochs=3"]
    run(tmp_path / "a", *more)
    original = module.open_banks

    def shuffled(*args):
        train, test, val = original(*args)
        test.labels = np.random.default_rng(0).permutation(test.labels)
        return train, test, val

    monkeypatch.setattr(module, "open_banks", shuffled)
    run(tmp_path / "b", *more)
    weights = [(tmp_path / which / "tiny" / "head.safetensors").read_bytes() for which in "ab"]
    assert weights[0] == weights[1]
    validated = [row for row in logged(tmp_path / "a/tiny") if "validation" in row]
    assert [row["step"] for row in validated] == [3, 6, 9]
    best = read_results(tmp_path / "a/tiny/results.json").rows[0]
    assert best.selection == "validation: best of 3 epochs on 21 images"
    with pytest.raises(ConfigError, match=r"data\.split=fit"):
        config(tmp_path, "train.select=validation")


def test_every_test_image_counts_whatever_the_batch():
    bank = ImageBank(
        build_dataset("synthetic_birds", None, "test", size=48, images=21, species=4), 48, "squash"
    )
    head = build_head("linear", small_encoder(), 4)
    torch.nn.init.normal_(head.classifier.weight)
    logits = classify(head, bank, batch=8)
    assert logits.shape == (21, 4)
    np.testing.assert_allclose(logits, classify(head, bank, batch=21), rtol=1e-4, atol=1e-5)
    measured = measure_classifier(head, bank, batch=8)
    hits = [int(np.argmax(logits[i])) == bank.labels[i] for i in range(21)]
    assert measured["top1"].mean == pytest.approx(np.mean(hits))
    each = [np.mean([h for h, y in zip(hits, bank.labels) if y == c]) for c in range(4)]
    assert measured["per_class"].mean == pytest.approx(np.mean(each))
    assert measured["top5"].mean == 1.0


def test_average_is_the_recursion_and_is_what_is_evaluated(tmp_path):
    AcceleratorState._reset_state(True)
    settings = config(tmp_path, "train.ema=0.5", "head=linear")
    trainer = Finetuner(settings, tmp_path, module.start_accelerator(settings.run))
    expected = [p.clone() for p in trainer.head.parameters()]
    with trainer.open_stream(0) as stream:
        for step in range(6):
            trainer.take_step(stream, step)
            momentum = min(0.5, (1 + step) / (10 + step))
            expected = [
                momentum * e + (1 - momentum) * p.detach()
                for e, p in zip(expected, trainer.head.parameters())
            ]
    for mine, theirs in zip(trainer.average.parameters(), expected):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(trainer.average.buffers(), trainer.head.buffers()):
        assert torch.equal(mine, theirs)
    assert trainer.result is trainer.average


def test_encoder_and_head_have_their_own_rates():
    head = build_head("tdsa", small_encoder(), 4, hidden=8)
    optimizer = module.make_optimizer(
        head, FinetuneTrain(lr=1.0, weight_decay=0.1), weights_given=True
    )
    scale = {
        id(p): (g["lr_scale"], g["weight_decay"])
        for g in optimizer.param_groups
        for p in g["params"]
    }
    trained = [p for p in head.parameters() if p.requires_grad]
    assert set(scale) == {id(p) for p in trained}
    assert scale[id(head.encoder.model.layer1[0].conv1.weight)] == (0.1, 0.1)
    assert scale[id(head.encoder.model.bn1.weight)] == (0.1, 0.0)
    assert scale[id(head.classifier[1].weight)] == (1.0, 0.1) and scale[
        id(head.classifier[1].bias)
    ] == (1.0, 0.0)
    frozen = build_head("linear", small_encoder(), 4, frozen=True)
    optimizer = module.make_optimizer(frozen, FinetuneTrain(frozen=True), weights_given=True)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 2


def test_rate_falls_tenfold_at_milestones():
    train = FinetuneTrain(lr=1.0, milestones=[0.5, 0.75], warmup_share=0.0)
    assert [lr_at(s, 8, train) for s in range(8)] == pytest.approx(
        [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    warm = [lr_at(s, 100, FinetuneTrain(lr=2.0, warmup_share=0.1)) for s in range(100)]
    assert warm[0] == pytest.approx(0.2) and max(warm) == 2.0 and warm[-1] < 1e-3


def test_augmentation_is_a_function_of_the_step_and_shared_by_ranks():
    images = torch.randint(
        0, 255, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    whole = augment(images, AugmentConfig(), 6, slice(0, 6), seed=1, step=4)
    again = augment(images, AugmentConfig(), 6, slice(0, 6), seed=1, step=4)
    half = augment(images[3:], AugmentConfig(), 6, slice(3, 6), seed=1, step=4)
    other = augment(images, AugmentConfig(), 6, slice(0, 6), seed=1, step=5)
    assert torch.equal(whole, again) and not torch.equal(whole, other)
    torch.testing.assert_close(whole[3:], half)
    assert whole.min() >= 0 and whole.max() <= 1
    same = AugmentConfig(scale=[1.0, 1.0], ratio=[1.0, 1.0], flip=0.0, jitter=0.0)
    torch.testing.assert_close(
        augment(images, same, 6, slice(0, 6), 0, 0), images / 255, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", HEADS)
def test_each_heads_file_is_its_config(name):
    head = load_finetune("default", [f"head={name}"]).head
    assert head == HEADS[name].config_class()


@pytest.mark.parametrize("recipe", ["default", "cub10", "tdsa_vgg16_cub"])
def test_recipes_compose(recipe):
    composed = load_finetune(recipe, ["data.root=somewhere"] if recipe != "default" else [])
    assert composed.order is (
        Order.class_balanced if composed.head.name == "scrim" else Order.shuffled
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head=tdsaa", "did you mean 'tdsa'"),
        ("head.initstd=1", "did you mean 'head.init_std'"),
        ("train.epoch=1", "did you mean 'train.epochs'"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=0", "at least 1"),
        ("head.init_std=-1", "init_std"),
        ("augment.scale=[0.5]", "must be 2 values"),
        ("train.milestones=[1.5]", "milestones"),
        ("run.name=../x", "run.name"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load_finetune("default", [override])


def test_batches_that_do_not_fit_are_said_before_any_file(tmp_path):
    for more, message in (
        (["train.batch=25"], "25"),
        (["head=scrim", "train.batch=6"], "images_per_class"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, *more)
    assert not (tmp_path / "tiny" / "config.yaml").exists()


def test_table_is_restartable_and_compares_with_plain_fine_tuning(tmp_path, monkeypatch, capsys):
    overrides = [f"run.dir={tmp_path}", "run.name=table", *TINY, "train.epochs=1", "run.pictures=0"]
    done = []
    original = module.Finetuner.train
    trained = lambda self, stop: (done.append(self.config.run.name), original(self, stop))  # noqa: E731
    monkeypatch.setattr(module.Finetuner, "train", trained)
    AcceleratorState._reset_state(True)
    rows = finetune_table("default", overrides, ["linear", "probe"], [0, 1])
    assert [row.name for row in rows] == ["plain fine-tuning", "linear probe"] and rows[
        0
    ].seeds == [0, 1]
    assert len(done) == 4
    finetune_table("default", overrides, ["linear", "probe"], [0, 1])
    assert len(done) == 4
    text = (tmp_path / "table" / "table.md").read_text()
    assert (
        "linear probe against plain fine-tuning: larger than" in text
        and "over seeds 0, 1" in text
        and "energy" in text
    )
    values = [
        read_results(tmp_path / f"table/linear/seed_{s}/results.json").rows[0].values["top1"]
        for s in (0, 1)
    ]
    assert rows[0].values["top1"].mean == pytest.approx(np.mean([v.mean for v in values]))


def test_every_arm_composes_and_unknown_ones_are_named():
    for name, arm in choose_arms(["methods", "ablations"]).items():
        assert load_finetune("default", list(arm.overrides)).head.name in (name, *HEADS)
    assert next(iter(choose_arms(["tdsa", "methods"]))) == "tdsa"
    assert len(choose_arms(["methods", "ablations"])) == len(ARMS)
    with pytest.raises(ConfigError, match="unknown"):
        choose_arms(["tdsb"])


def test_ablations_are_pairs_that_differ_in_what_the_name_says():
    chosen = choose_arms(["ablations"])
    described = {}
    for name in ABLATIONS:
        whole = chosen[chosen[name].against]
        assert list(chosen).index(chosen[name].against) < list(chosen).index(name)
        there, without = (
            load_finetune("default", list(arm.overrides)) for arm in (whole, chosen[name])
        )
        orders = [("order", there.order.value, without.order.value)]
        pairs = [(key, value, vars(without.head)[key]) for key, value in vars(there.head).items()]
        described[name] = {key: (old, new) for key, old, new in orders + pairs if old != new}
    assert described == {
        "linear_balanced": {"order": ("shuffled", "class_balanced")},
        "tdsa_no_gating": {"gating": (True, False)},
        "tdsa_no_diversity": {"diversity": (15.0, 0.0)},
        "tdsa_no_terms": {"diversity": (15.0, 0.0), "discriminality": (1.5, 0.0)},
        "coarse2fine_not_orthogonal": {"orthogonal": (True, False)},
        "coarse2fine_no_first_stage": {"coarse": (0.5, 0.0)},
        "scrim_one_module": {"modules": (2, 1), "regions": (2, 4)},
        "scrim_no_ranking": {"ranking": (1.0, 0.0)},
        "scrim_no_contrast": {"contrast": (0.5, 0.0)},
        "scrim_shuffled": {"order": ("class_balanced", "shuffled")},
        "upm_vote": {"fusion": (Fusion.concat, Fusion.vote)},
        "upm_separate": {"streams": (Streams.shared, Streams.separate)},
    }


def test_an_ablation_is_compared_with_its_method_by_hand():
    top1 = {"linear": (0.5, 0.6), "tdsa": (0.6, 0.8), "tdsa_no_gating": (0.5, 0.65)}
    arms = choose_arms(["tdsa_no_gating", "tdsa", "linear"])
    tables = [
        [row_of(arm.label, top1[name][seed]) for name, arm in arms.items()] for seed in (0, 1)
    ]
    first, second = differences(arms, tables)
    assert (first.arm, first.against) == ("TDSA-Loss, no gating", "TDSA-Loss")
    assert first.tests["finetune.top1"].each == pytest.approx([-0.1, -0.15])
    assert (second.arm, second.against) == ("TDSA-Loss", "plain fine-tuning")
    assert second.tests["finetune.top1"].mean == pytest.approx(0.15)
    lone = choose_arms(["tdsa_no_gating"])
    assert differences(lone, tables) == []


def row_of(name, value):
    return Row(
        name, "finetune", 1, "birds", {}, 48, "crop", "", "", "", [], {"top1": Measure.of([value])}
    )


def test_channels_are_one_line_of_the_overlap_table_and_the_centre_stands_once():
    tdsa = {
        "mid channel 0": {"in box": 0.5},
        "mid channel 1": {"in box": 0.75},
        "mid channels": {"parts reached": 1.0},
    }
    overlap = tdsa | {"centre of the image": {"in box": 0.25}}
    lines = overlap_table(
        choose_arms(["linear", "tdsa"]), {"linear": overlap, "tdsa": overlap}
    ).splitlines()[2:]
    assert [line.replace(" ", "") for line in lines] == [
        "|plainfine-tuning,midchannels|62.5|–|–|–|–|100.0|",
        "|any,centreoftheimage|25.0|–|–|–|–|–|",
        "|TDSA-Loss,midchannels|62.5|–|–|–|–|100.0|",
    ]
