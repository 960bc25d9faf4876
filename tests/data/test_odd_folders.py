"""Folders and tables as people really have them, drawn at random: each is read rightly or refused
in one sentence, nothing is left out without a word, nothing raises anything else, and the doctor
says the same as a run.

Every example is made from a truth, written in one of the odd ways, and read back.
"""

import csv
import io
import re

import numpy as np
from drawn_inputs import DRAWN, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssl_parts.data.sets.label_table import read_labels
from ssl_parts.data.sets.layout import read_layout
from ssl_parts.errors import DataError

SPELLINGS = {
    "train": ["train", "Train", "TRAINING", "training_set", "train_images", "train2017"],
    "val": ["val", "valid", "Validation", "VAL", "val2017", "dev"],
    "test": ["test", "Test", "testing", "test_set", "test1"],
}
CLASSES = ["ant", "Bee", "001.Black_footed", "été", "a b", "train_station", "test tube"]


@st.composite
def folder_sets(draw):
    """(path → 'split/class' or '' where it must be left out or refused)."""
    splits = draw(
        st.sampled_from(
            [["train"], ["train", "test"], ["train", "val"], ["train", "val", "test"], []]
        )
    )
    classes = draw(
        st.lists(
            st.sampled_from(CLASSES[:5] if not splits else CLASSES),
            min_size=2,
            max_size=3,
            unique=True,
        )
    )
    wrapper = draw(st.sampled_from(["", "archive/", "data/my images/"]))
    prefix = draw(st.sampled_from(["", "", "seg_"])) if len(splits) > 1 else ""
    truth = {}
    for split in splits or ["train"]:
        spelled = prefix + (split if prefix else draw(st.sampled_from(SPELLINGS[split])))
        inner = draw(st.sampled_from(["", "", f"{spelled}/", "images/"])) if splits else ""
        for name in classes:
            for i in range(draw(st.integers(4, 5))):
                deep = draw(st.sampled_from(["", "", "more/"]))
                place = f"{spelled}/{inner}" if splits else ""
                truth[f"{wrapper}{place}{name}/{deep}{split}{i}.jpg"] = f"{split}/{name}"
    for stray in draw(
        st.lists(
            st.sampled_from(["contact.jpg", "extra/1.jpg", "sheet.png"]), unique=True, max_size=2
        )
    ):
        if splits or "/" not in stray:
            truth[f"{wrapper}{stray}"] = ""
    return truth


@DRAWN
@given(folder_sets(), st.randoms(use_true_random=False))
def test_folders(truth, random):
    paths = list(truth)
    random.shuffle(paths)
    try:
        layout = read_layout(paths)
    except DataError as error:
        refused(error)
        assert "" in truth.values()  # what has nothing beside it is recognised
        return
    found = {
        p: "/".join(filter(None, (layout.splits.get(i), layout.classes.get(i))))
        for i, p in enumerate(paths)
    }
    assert found == truth
    assert sum(said_number(remark) for remark in layout.remarks) == list(found.values()).count("")


def said_number(remark):
    match = re.search(r"([\d,]+) images?\b", remark)
    return int(match[1].replace(",", "")) if match and "left out" in remark else 0


NAMES = st.sampled_from(
    ["train", "test", "val", "a", "b", "seg_train", "seg_test", "images", "masks", "x y", "Train"]
)


@DRAWN
@given(st.lists(st.lists(NAMES, max_size=4), min_size=1, max_size=9))
def test_any_tree_is_recognised_with_a_word_or_refused(folders):
    """No truth here: but test images are never in training, nor anything left out, without a
    word."""
    paths = [f"{'/'.join(names)}/{i}.jpg".lstrip("/") for i, names in enumerate(folders)]
    try:
        layout = read_layout(paths)
    except DataError as error:
        refused(error)
        return
    said = " ".join(layout.remarks)
    assert sum(map(said_number, layout.remarks)) == len(paths) - len(layout.splits)
    for row, split in layout.splits.items():
        held = {"test", "val"} & set(folders[row])
        assert split != "train" or not held or "named test or val" in said, (paths[row], layout)
        assert row not in layout.classes or layout.classes[row] in folders[row]


@st.composite
def tables(draw):
    names = draw(
        st.lists(
            st.sampled_from(["0.jpg", "1.JPG", "b c.png", "dir/2.jpg", "é.jpg"]),
            min_size=1,
            unique=True,
        )
    )
    labels = [
        draw(st.sampled_from(["ant", "bee", "Mésange bleue", "a, b", "x;y", '"q"'])) for _ in names
    ]
    rows = list(zip(names, labels))
    truth = dict(rows)
    written = []
    for name, label in draw(
        st.permutations(rows + draw(st.lists(st.sampled_from(rows), max_size=2)))
    ):
        forms = [
            name,
            f"images/{name}",
            f"./{name}",
            name.replace("/", "\\"),
            name.upper(),
            name.rpartition(".")[0],
        ]
        written.append((draw(st.sampled_from(forms)), draw(st.sampled_from([label, f" {label} "]))))
    header = draw(st.sampled_from([[], [("filename", "label")], [("Image", "Class Name")]]))
    stream = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(stream, delimiter=draw(st.sampled_from(",;\t")), lineterminator=end)
    writer.writerows([*header, *written])
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    return truth, stream.getvalue().encode(encoding)


@DRAWN
@given(tables())
def test_labels(folder, table):
    truth, data = table
    file = folder() / "labels.csv"
    file.write_bytes(data)
    try:
        labels, _ = read_labels(file, list(truth))
    except DataError as error:
        refused(error)
        assert b'"q' in data.replace(b"\0", b"")  # quotes in quotes cannot be told from a cell
    else:
        assert dict(zip(truth, labels)) == truth


@DRAWN
@given(tables(), st.data())
def test_damaged_tables(folder, table, data):
    truth, content = table
    file = folder() / "labels.csv"
    file.write_bytes(damaged(content, data))
    try:
        labels, _ = read_labels(file, list(truth))
    except DataError as error:
        refused(error)
    else:
        assert len(labels) == len(truth) and all(labels)


def damaged(content, data):
    """One of: cut off, a byte changed, bytes put in."""
    place = data.draw(st.integers(0, max(len(content) - 1, 0)))
    how = data.draw(st.integers(0, 2))
    if how == 0:
        return content[:place]
    return (
        content[:place]
        + data.draw(st.binary(min_size=1, max_size=4))
        + content[place + (how == 1) :]
    )


def save_mask(file, ids):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.kron(np.array(ids, np.uint8), np.ones((8, 8), np.uint8))).save(file)


def photograph(file, seed, content=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)).save(file)
    if content is not None:
        file.write_bytes(content)
