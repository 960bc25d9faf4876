"""Layouts of folders as people have them: right, or one sentence; never a guess without a word."""

import re

import pytest

from ssl_parts.data.sets.layout import read_layout
from ssl_parts.data.sets.split_names import SplitName, split_of
from ssl_parts.errors import DataError

PLAIN = ["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "test/a/3.jpg", "test/b/3.jpg"]


def of(*paths, labelled=True):
    """Path → split or split/class, and the layout."""
    layout = read_layout(paths, labelled)
    found = {
        path: "/".join(filter(None, (layout.splits.get(i), layout.classes.get(i))))
        for i, path in enumerate(paths)
    }
    return found, layout


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (PLAIN, "train/a train/a train/b test/a test/b"),
        (
            ["Training Set/A/1.jpg", "Training Set/B/2.jpg", "TEST/A/1.jpg"],
            "train/A train/B test/A",
        ),
        (["train2017/a/1.jpg", "train2017/b/1.jpg", "val2017/a/2.jpg"], "train/a train/b val/a"),
        (["trainval/a/1.jpg", "trainval/b/1.jpg", "test/a/2.jpg"], "train/a train/b test/a"),
        (["train/1.jpg", "test1/2.jpg"], "train test"),
        (
            ["archive/x/train/a/1.jpg", "archive/x/train/b/1.jpg", "archive/x/test/b/2.jpg"],
            "train/a train/b test/b",
        ),
        (
            ["train/images/a/1.jpg", "train/images/b/1.jpg", "test/images/a/2.jpg"],
            "train/a train/b test/a",
        ),
        (
            ["train/birds/a/1.jpg", "train/birds/b/1.jpg", "test/birds/a/2.jpg"],
            "train/a train/b test/a",
        ),
        (
            ["a/train/1.jpg", "a/test/2.jpg", "b/train/3.jpg", "b/test/x/4.jpg"],
            "train/a test/a train/b test/b",
        ),
        (["a/1.jpg", "b/deep/2.jpg"], "train/a train/b"),
        (["download/a/1.jpg", "download/b/2.jpg"], "train/a train/b"),
        (["1.jpg", "2.jpg"], "train train"),
        (["photos/1.jpg", "photos/2.jpg"], "train train"),
        (["archive/1.jpg", "archive/more/2.jpg"], "train train"),
        (
            ["train_station/1.jpg", "train_railway/1.jpg", "test_tube/2.jpg"],
            "train/train_station train/train_railway train/test_tube",
        ),
    ],
)
def test_what_is_clear_is_recognised(paths, expected):
    assert list(of(*paths)[0].values()) == expected.split()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["unlabeled/9.jpg", "unlabeled/8.jpg"],
            r"unlabeled/ \(2 images\) is no split beside train/, test/: left out",
        ),
        (["sample.jpg"], r"1 image beside train/, test/ left out: sample\.jpg"),
        (["train_extra/c/1.jpg"], r"train_extra/ \(1 image\) is no split"),
    ],
)
def test_what_lies_beside_splits_is_left_out_and_said(more, said):
    found, layout = of(*PLAIN, *more)
    assert [found[path] for path in PLAIN] == ["train/a", "train/a", "train/b", "test/a", "test/b"]
    assert all(found[path] == "" for path in more)
    assert any(re.search(said, remark) for remark in layout.remarks)


def test_a_prefix_shared_by_train_and_test_is_a_split_and_said():
    paths = [
        "seg_train/seg_train/a/1.jpg",
        "seg_train/seg_train/b/1.jpg",
        "seg_test/seg_test/a/1.jpg",
    ]
    found, layout = of(*paths, "seg_pred/seg_pred/9.jpg")
    assert list(found.values()) == ["train/a", "train/b", "test/a", ""]
    assert "seg_train/ is taken for split train" in layout.remarks and len(layout.remarks) == 3


def test_splits_without_class_folders_have_no_labels():
    paths = ["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg"]
    for test in ("test/t1.jpg", "test/unknown/t1.jpg"):
        found, layout = of(*paths, test)
        assert list(found.values()) == ["train/a", "train/b", "val/a", "test"]
        assert "1 image without a label" in layout.remarks[0]
    found, layout = of("train/1.jpg", "test/a/1.jpg", "test/b/2.jpg")
    assert (
        list(found.values()) == ["train", "test", "test"]
        and "no class folders" in layout.remarks[0]
    )


def test_a_few_loose_images_are_left_out_and_many_are_refused():
    classes = [f"{c}/{i}.jpg" for c in "ab" for i in range(8)]
    found, layout = of(*classes, "loose.jpg")
    assert (
        found["loose.jpg"] == ""
        and "loose.jpg" in layout.remarks[0]
        and found["a/3.jpg"] == "train/a"
    )
    with pytest.raises(
        DataError, match=r"2 images in data\.root beside 16 images.*data\.labelled=false"
    ):
        read_layout([*classes, "loose.jpg", "more.jpg"])
    assert set(of(*classes, "loose.jpg", "more.jpg", labelled=False)[0].values()) == {"train"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            ["car/1.jpg", "bus/1.jpg", "train/1.jpg"],
            ["train/ beside bus/, car/", "a class", "data.root"],
        ),
        (
            ["a/1.jpg", "b/1.jpg", "test/3.jpg"],
            ["test/ beside a/, b/", "split test", "nothing is split train"],
        ),
        (["test/a/1.jpg", "test/b/1.jpg"], ["test/", "nothing is split train"]),
        (["valid/1.jpg", "invalid/1.jpg"], ["valid/ beside invalid/", "another name"]),
        (
            ["train/a/1.jpg", "Train/a/1.jpg", "test/a/2.jpg"],
            ["Train/", "train/", "both look like split train"],
        ),
        (["a/train/1.jpg", "a/test/2.jpg", "b/1.jpg"], ["a/ holds test/, train/", "b/ has none"]),
        (["a/test/2.jpg", "b/train/1.jpg"], ["a/ has no train/"]),
        (
            ["train/images/1.jpg", "train/masks/1.png", "test/images/2.jpg"],
            ["images/, masks/", "data=part_folder"],
        ),
    ],
)
def test_what_could_mean_two_things_is_refused_by_name(paths, words):
    with pytest.raises(DataError) as caught:
        read_layout(paths)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_training_images_in_a_folder_named_test_are_said():
    found, layout = of("train/a/test/1.jpg", "train/b/2.jpg", "test/a/3.jpg")
    assert found["train/a/test/1.jpg"] == "train/a"
    assert (
        "1 training image lies in folders named test or val (first: train/a/test/1.jpg)"
        in layout.remarks
    )


def test_the_account_names_images_classes_and_places():
    assert of(*PLAIN)[1].account == [
        "split train: 3 images in train/, 2 classes (a, b)",
        "split test: 2 images in test/, 2 classes (a, b)",
    ]


def test_names_of_splits():
    assert split_of("imagenet1k-validation-00") == SplitName("val", "imagenet1k")
    assert split_of("TRAIN_images") == SplitName("train", "") == split_of("training data 2")
    assert split_of("train_val") == SplitName("train", "trainval") == split_of("trainval")
    for name in ("latest", "contest", "retrained", "test_train", "devkit", "a", "invalid", ""):
        assert split_of(name) is None
