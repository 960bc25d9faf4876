"""Inputs as people really have them, drawn at random: each is read rightly or refused in one
sentence, nothing is left out without a word, nothing raises anything else, and the doctor says the
same as a run.

Every example is made from a truth, written in one of the odd ways, and read back.
`SSL_PARTS_EXAMPLES=1000 pytest tests/data/test_odd_inputs.py` draws more, and other ones each
time.
"""

import copy
import csv
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from evaluation.plan import is_annotated
from evaluation.preflight import look_ahead
from evaluation.suite import EvaluationConfig
from PIL import Image

from ssl_parts.data import DataConfig, build_bank, build_dataset
from ssl_parts.data.label_table import read_labels
from ssl_parts.data.layout import read_layout
from ssl_parts.doctor.data import examine
from ssl_parts.errors import DataError, SslPartsError

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = int(os.environ.get("SSL_PARTS_EXAMPLES", 60))
DRAWN = settings(
    max_examples=EXAMPLES,
    derandomize="SSL_PARTS_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEWER = settings(DRAWN, max_examples=max(EXAMPLES // 3, 1))


@pytest.fixture(autouse=True, scope="module")
def own_index_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_PARTS_CACHE", str(tmp_path_factory.mktemp("indices")))
        yield


@pytest.fixture
def folder():
    """folder(): a new empty one; all are removed at the end."""
    made = []

    def new():
        made.append(Path(tempfile.mkdtemp()))
        return made[-1]

    yield new
    for place in made:
        shutil.rmtree(place)


def refused(error):
    """An error of ours, and one sentence: no line that is not part of a list of files."""
    text = str(error)
    assert isinstance(error, SslPartsError) and len(text) > 20
    assert all(
        line.startswith(("  ", "leave them", "mend them")) for line in text.splitlines()[1:]
    ), text


# --- folders

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
    """No truth here: but test images are never in training, nor anything left out, without a word."""
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


# --- labels.csv


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


# --- COCO files

HEIGHT, WIDTH = 24, 36


@st.composite
def coco_files(draw):
    """(mask, content of the JSON) of one image of 24 x 36 pixels."""
    mask, rows = np.zeros((HEIGHT, WIDTH), np.uint8), []
    scale = draw(st.sampled_from([1, 1, 2]))
    regions = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 1)),
            min_size=1,
            max_size=3,
            unique_by=lambda r: r[0],
        )
    )
    for number, (column, category) in enumerate(regions):
        x, y, side = 12 * column + 2, 3, 6 + number
        mask[y : y + side, x : x + side] = category + 1
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        corners = [scale * value for value in corners]
        region = np.zeros((scale * HEIGHT, scale * WIDTH), np.uint8)
        region[scale * y : scale * (y + side), scale * x : scale * (x + side)] = 1
        runs = run_lengths(region)
        forms = [[corners], corners, np.reshape(corners, (4, 2)).tolist(), [corners, [1, 1, 2, 2]]]
        forms += [{"counts": runs, "size": list(region.shape)}, {"counts": runs}]
        segmentation = draw(st.sampled_from(forms))
        rows.append(
            {"id": number, "image_id": 1, "category_id": 5 + category, "segmentation": segmentation}
        )
        if draw(st.booleans()):
            rows.append(
                {
                    "id": 99,
                    "image_id": 1,
                    "category_id": 5,
                    "segmentation": draw(st.sampled_from([None, []])),
                }
            )
    name = draw(st.sampled_from(["1.jpg", "train\\1.jpg", "1.JPG", "./1.jpg"]))
    image = {"id": 1, "file_name": name, "height": scale * HEIGHT, "width": scale * WIDTH}
    images = [image] * draw(st.integers(1, 2))
    return mask, {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 5, "name": "a"}, {"id": 6, "name": "b"}],
    }


def run_lengths(mask):
    flat = mask.T.ravel()
    return np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]).tolist()


def write_coco(place, content):
    (place / "images/train").mkdir(parents=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(place / "images/train/1.jpg")
    (place / "annotations").mkdir()
    (place / "annotations/train.json").write_text(json.dumps(content))
    return place


@DRAWN
@given(coco_files())
def test_coco(folder, made):
    mask, content = made
    data = build_dataset("coco_parts", write_coco(folder(), content))
    assert np.array_equal(data[0].part_mask, mask)


JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        3.5,
        float("nan"),
        10**400,
        "",
        "x",
        "\0",
        [],
        [[]],
        {},
        {"a": 1},
        [None],
        1e308,
    ]
)


@DRAWN
@given(coco_files(), st.data())
def test_damaged_coco(folder, made, data):
    """Anything in place of anything, or an entry gone."""
    content = json.loads(json.dumps(made[1]))
    for _ in range(data.draw(st.integers(1, 2))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
                node = node[key]
            elif data.draw(st.booleans()):
                node[key] = copy.deepcopy(data.draw(JUNK))
                break
            else:
                node.pop(key)
                break
    try:
        sample = build_dataset("coco_parts", write_coco(folder(), content))[0]
    except SslPartsError as error:
        refused(error)
    else:
        assert sample.part_mask.shape == (HEIGHT, WIDTH) and sample.part_mask.max() <= 2


# --- shards


def png(seed):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), seed, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@st.composite
def shard_sets(draw):
    """({split: [(seed, class)]}, {file: members})."""
    name = draw(
        st.sampled_from(["{0}-{1:06d}.tar", "{0}/{1:05d}.tar", "set-{0}-{1}.tar", "{0}_{1}.TAR"])
    )
    dots, keys = draw(st.sampled_from(["", ".", ".v1.2-"])), iter(range(200))
    truth, files = {}, {}
    for split in draw(st.sampled_from([["train"], ["train", "val"], ["train", "val", "test"]])):
        spelled = draw(
            st.sampled_from([split, *(["validation", "valid"] if split == "val" else [])])
        )
        truth[split] = []
        for shard in range(draw(st.integers(1, 2))):
            members = []
            for key in (next(keys) for _ in range(draw(st.integers(1, 3)))):
                label = draw(st.sampled_from([0, 1, 7, -1]))
                truth[split].append((key, label))
                members.append((f"k{key}{dots}{key}.png", png(key)))
                members += [(f"k{key}{dots}{key}.cls", b"%d" % label)] * (label >= 0)
                members += draw(st.sampled_from([[], [(f"k{key}{dots}{key}.json", b"{}")]]))
            files[name.format(spelled, shard)] = members
    return truth, files


def write_shards(place, files):
    for name, members in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(place / name, "w") as archive:
            for member, content in members:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return place


def seen_in(place, split):
    data = build_dataset("shards", place, split)
    label = {-1: -1} | {k: int(name) for k, name in enumerate(data.classes)}
    return [(int(data.image(i)[0, 0, 0]), label[int(data.labels[i])]) for i in range(len(data))]


@DRAWN
@given(shard_sets())
def test_shards(folder, made):
    truth, files = made
    place = write_shards(folder(), files)
    assert {split: seen_in(place, split) for split in truth} == truth


@DRAWN
@given(shard_sets(), st.data())
def test_damaged_shards(folder, made, data):
    """Nothing is lost in silence: as many images as before, or a word."""
    truth, files = made
    place = write_shards(folder(), files)
    file = place / data.draw(st.sampled_from(sorted(files)))
    content = bytearray(file.read_bytes())
    used = 1024 * sum(len(members) for members in files.values())
    where = data.draw(st.integers(0, min(used, len(content)) - 1))
    content[where] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    try:
        sets = [build_dataset("shards", place, split) for split in truth]
    except SslPartsError as error:
        refused(error)
        return
    assert sum(map(len, sets)) == sum(map(len, truth.values())) or sets[0].remarks.sentences()


# --- the doctor and a run


def save_mask(file, ids):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.kron(np.array(ids, np.uint8), np.ones((8, 8), np.uint8))).save(file)


def photograph(file, seed, content=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)).save(file)
    if content is not None:
        file.write_bytes(content)


@st.composite
def class_folders(draw):
    """Path → content (None for a photograph)."""
    splits = draw(st.sampled_from([["train", "test"], ["train"], ["train", "val"], [""], ["test"]]))
    files = {}
    for split in splits:
        for name in draw(
            st.lists(st.sampled_from(["a", "b", "z", "."]), min_size=1, max_size=3, unique=True)
        ):
            for i in range(draw(st.integers(1, 3))):
                damage = draw(st.sampled_from([None] * 9 + [b"", b"<html>"]))
                files[f"{split}/{name}/{i}.jpg".lstrip("/")] = damage
    return files


@FEWER
@given(class_folders(), st.sampled_from([0, 1, 5]))
def test_doctor_and_run_agree_on_folders(folder, files, shots):
    place = folder()
    for seed, (name, content) in enumerate(files.items()):
        photograph(place / name, seed, content)
    agree(DataConfig(name="folder", root=str(place), size=16), EvaluationConfig(shots=shots))


@st.composite
def part_folders(draw):
    ids = st.lists(st.sampled_from([0, 1, 2, 3, 255]), min_size=4, max_size=4)
    names = draw(st.sampled_from([[], ["wing"], ["wing", "tail"], ["wing", "tail", "beak"]]))
    return names, {
        split: [draw(ids) for _ in range(draw(st.integers(1, 3)))] for split in ("train", "test")
    }


@FEWER
@given(part_folders(), st.sampled_from([0, 1, 9]))
def test_doctor_and_run_agree_on_masks(folder, made, part_shots):
    names, splits = made
    place = folder()
    for split, masks in splits.items():
        for i, ids in enumerate(masks):
            photograph(place / split / f"images/{i}.jpg", i)
            save_mask(place / split / f"masks/{i}.png", np.reshape(ids, (2, 2)))
    if names:
        (place / "parts.txt").write_text("\n".join(names))
    agree(
        DataConfig(name="part_folder", root=str(place), size=16),
        EvaluationConfig(part_shots=part_shots, part_draws=99),
    )


def agree(config, evaluation):
    """The doctor finds a set sound exactly where a run would begin to train; what this run would
    not read at all (the test images of a set without labels, masks without part segmentation) only
    the doctor finds damaged."""
    starts = reads_all = False
    try:
        bank = build_bank(config)
        reads_all = is_annotated(bank.dataset) and (
            config.name == "folder" or evaluation.part_shots > 0
        )
        if is_annotated(bank.dataset):
            look_ahead(config, evaluation, bank)
        starts = True
    except SslPartsError as error:
        refused(error)
    try:
        sound = examine(config, decode=True, evaluation=evaluation).sound
    except SslPartsError as error:
        refused(error)
        sound = False
    assert sound == starts or (starts and not reads_all)
