"""What can be measured on a data set is known beforehand, with names, and is what then runs."""

import numpy as np
import pytest
import torch

from evaluation.protocols import Bench, evaluate_encoder, run_protocol
from evaluation.protocols.config import (
    EvaluationConfig,
    FewLabelProtocol,
    KnnProtocol,
    LinearProtocol,
    PartsProtocol,
)
from evaluation.protocols.plan import plan_protocol, plan_protocols, restrict
from evaluation.protocols.suite import missing
from ssl_parts.data import ImageBank, Sample
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import DataError


class Given:
    """Images whose colour says their class."""

    name, part_names, keypoint_names = "given", [], []

    def __init__(self, labels, split="train", classes=("ant", "bee", "zebra")):
        self.labels, self.split, self.classes = np.array(labels), split, list(classes)
        self.paths = [f"{split}/{i}.png" for i in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        image = torch.randint(0, 60, (3, 32, 32), generator=generator, dtype=torch.uint8)
        image[self.labels[i] % 3] += 150
        return Sample(image, int(self.labels[i]), self.paths[i])


def bank(labels, split="train", **options):
    return ImageBank(Given(labels, split, **options), 32)


def test_classes_without_training_images_are_left_out_by_name():
    planned = plan_protocol(LinearProtocol(), bank([0, 1, 0, 1]), bank([0, 2, 1, 2], "test"))
    assert planned.train is None and planned.test.tolist() == [0, 2]
    assert planned.notes == (
        "2 test images are left out, as their classes have no training image: 'zebra'",
    )


def test_unlabelled_images_are_left_out_and_named():
    planned = plan_protocol(KnnProtocol(), bank([0, 1, -1]), bank([0, -1], "test"))
    assert planned.train.tolist() == [0, 1] and planned.test.tolist() == [0]
    assert (
        "1 training images without a label" in planned.notes[0]
        and "train/2.png" in planned.notes[0]
    )
    assert "test/1.png" in planned.notes[1]


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ([-1, -1], [0], "training images of given have no labels"),
        ([1, 1], [1], "belong to one class, 'bee'"),
        ([0, 1], [-1], "test images of given have no labels"),
        ([0, 1], [2], "no test image belongs to a class"),
    ],
)
def test_what_cannot_be_measured_says_why(train, test, reason):
    with pytest.raises(DataError, match=reason):
        plan_protocol(LinearProtocol(), bank(train), bank(test, "test"))
    plan = plan_protocols(EvaluationConfig(protocols=["linear"]), bank(train), bank(test, "test"))
    assert (
        not plan.measures and reason in plan.notes[0] and "linear is not measured" in plan.notes[0]
    )


def test_fewer_labels_than_asked_for():
    train = bank([0] * 6 + [1] * 2)
    planned = plan_protocol(FewLabelProtocol(shots=[1.0, 2.0, 5.0, 0.5]), train, train)
    assert planned.protocol.shots == [1.0, 2.0, 0.5]
    assert "draws 2 images of each class in place of 5" in planned.notes[0]
    assert "'bee'" in planned.notes[0]
    same = FewLabelProtocol(shots=[2.0])
    assert plan_protocol(same, train, train).protocol is same


def test_part_masks_are_needed_for_parts():
    with pytest.raises(DataError, match="training images of given have no part masks"):
        plan_protocol(PartsProtocol(), bank([0]), bank([0], "test"))
    assert not plan_protocols(EvaluationConfig(protocols=["parts"]), bank([0]), bank([0])).notes


def test_the_plan_is_what_runs_and_what_is_known_is_not_measured_again(monkeypatch):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3").eval()
    train, test = bank([0, 1] * 6), bank([0, 1, 2, 0, 1], "test")
    bench = Bench(encoder, train, test)
    config = EvaluationConfig(protocols=["linear", "knn"], knn=KnnProtocol(k=[3]))
    rows = evaluate_encoder(bench, config)
    assert [row.splits["test"] for row in rows] == [4, 4]
    by_hand = Bench(encoder, train, test.subset([0, 1, 3, 4]))
    assert run_protocol(config.linear, by_hand)[0].values == rows[0].values
    assert bench.restricted(None, np.array([0, 1])) is bench.restricted(None, np.array([0, 1]))
    plan = plan_protocols(config, train, test)
    assert missing(plan, rows) == [] and restrict(bench, plan.planned[0]) is not bench
    changed = plan_protocols(
        EvaluationConfig(protocols=["linear", "knn"], knn=KnnProtocol(k=[5])), train, test
    )
    assert [planned.protocol.id for planned in missing(changed, rows)] == ["knn"]
    monkeypatch.setattr("evaluation.protocols.run.MEASURES", {"knn": lambda *_: []})
    assert evaluate_encoder(bench, changed_to(5), known=rows)[0] is rows[0]


def changed_to(k):
    return EvaluationConfig(protocols=["linear", "knn"], knn=KnnProtocol(k=[k]))
