"""COCO files and tar shards as people really have them, and damaged ones, drawn at random: right,
or one sentence; nothing is lost without a word.
"""

import copy
import io
import json
import tarfile

import numpy as np
import pytest
from drawn_inputs import DRAWN, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssl_parts.data import build_dataset
from ssl_parts.errors import SslPartsError


@pytest.fixture(autouse=True, scope="module")
def own_index_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_PARTS_CACHE", str(tmp_path_factory.mktemp("indices")))
        yield


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
