import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.decode import decode_image
from ssl_parts.data.sets import shards as module
from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def own_index_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_PARTS_CACHE", str(tmp_path / "indices"))


def encoded(seed, size=(20, 12)):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path, members, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def root(tmp_path):
    for shard, split in enumerate(("train", "train", "val")):
        keys = [f"{shard}{i:05d}" for i in range(5)]
        members = []
        for i, key in enumerate(keys):
            members += [
                (f"{key}.png", encoded(shard * 10 + i)),
                (f"{key}.cls", str(i % 3).encode()),
            ]
            members.append((f"{key}.txt", b"a caption"))
        write_shard(tmp_path / f"set/{split}-{shard:06d}.tar", members)
    (tmp_path / "set/classes.txt").write_text("ant\nbee\ncat\n")
    return tmp_path / "set"


def test_reads_at_random_what_was_packed(root):
    train, val = (build_dataset("shards", root, split) for split in ("train", "val"))
    assert len(train) == 10 and len(val) == 5 and train.classes == ["ant", "bee", "cat"]
    assert (
        train.paths[7] == "train-000001.tar/100002.png"
        and train.labels.tolist() == [0, 1, 2, 0, 1] * 2
    )
    for i in (9, 0, 7):
        assert torch.equal(train[i].image, decode_image(encoded(i // 5 * 10 + i % 5), "x"))
    assert torch.equal(val.image(4), decode_image(encoded(24), "x"))


def test_is_indexed_once(root, monkeypatch):
    first = build_dataset("shards", root)
    monkeypatch.setattr(module, "read_shard", lambda shard: pytest.fail("read again"))
    again = build_dataset("shards", root)
    assert again.paths == first.paths and torch.equal(again.image(3), first.image(3))


def test_a_changed_shard_is_indexed_again(root):
    build_dataset("shards", root)
    write_shard(root / "train-000001.tar", [("7.png", encoded(7)), ("7.cls", b"2")])
    train = build_dataset("shards", root)
    assert len(train) == 6 and train.labels[-1] == 2


def test_a_damaged_index_is_made_again(root, tmp_path):
    first = build_dataset("shards", root)
    for file in (tmp_path / "indices").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert build_dataset("shards", root).paths == first.paths


def test_an_index_that_unpickles_is_not_run(root, tmp_path):
    build_dataset("shards", root)
    for file in (tmp_path / "indices").iterdir():
        np.savez(file, names=np.array([{"x": 1}], dtype=object))
    assert len(build_dataset("shards", root)) == 10


def test_processes_and_caches(root, tmp_path):
    train = build_dataset("shards", root)
    train.image(0)
    copy = pickle.loads(pickle.dumps(train))
    assert torch.equal(copy.image(6), train.image(6))
    bank = ImageBank(train, 16, "squash", cache="disk", cache_dir=tmp_path / "c").fill()
    assert torch.equal(bank.images([4])[0], ImageBank(train, 16, "squash").images([4])[0])


def test_names_that_climb_out_and_links_are_harmless(tmp_path):
    path = tmp_path / "odd" / "part.tar"
    write_shard(
        path, [("../../evil.png", encoded(1)), ("sub/a.b.png", encoded(2)), ("c.png", encoded(3))]
    )
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("passwd.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = build_dataset("shards", tmp_path / "odd")
    assert len(data) == 3 and data.split == "train"
    assert "links, devices and sparse files: 1" in data.remarks.sentences()[0]
    assert torch.equal(data.image(0), decode_image(encoded(1), "x"))
    assert not (tmp_path / "evil.png").exists()


def test_errors(tmp_path, root):
    with pytest.raises(DataError, match=r"no \*\.tar below"):
        build_dataset(
            "shards", tmp_path / "empty" if (tmp_path / "empty").mkdir() is None else None
        )
    write = tmp_path / "bad" / "train-0.tar"
    write_shard(write, [("a.txt", b"x")])
    with pytest.raises(DataError, match="holds no image"):
        build_dataset("shards", write.parent)
    write_shard(write, [("a.png", encoded(0)), ("a.cls", b"cat")])
    with pytest.raises(DataError, match=r"a\.cls: b'cat' is not the number"):
        build_dataset("shards", write.parent)
    write_shard(write, [("a.png", encoded(0)), ("a.png", encoded(1))])
    with pytest.raises(DataError, match=r"holds a\.png twice"):
        build_dataset("shards", write.parent)
    write_shard(write, [("a.png", encoded(0, (300, 300)))])
    write.write_bytes(write.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"train-0\.tar"):
        build_dataset("shards", write.parent)
    write.write_bytes(b"not a tar at all" * 100)
    with pytest.raises(DataError, match="cannot read this tar"):
        build_dataset("shards", write.parent)
    with pytest.raises(ConfigError, match="no such split"):
        build_dataset("shards", root, "test")
    (root / "classes.txt").write_text("ant\n")
    with pytest.raises(DataError, match="names 1 classes, but the shards hold class 2"):
        build_dataset("shards", root)


def in_shards(folder, shards):
    """Writes NAME → members, where a number stands for the picture of that seed."""
    for name, members in shards.items():
        content = [(n, encoded(c) if isinstance(c, int) else c) for n, c in members.items()]
        write_shard(folder / name, content)
    return folder


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/00000.tar", "val/00000.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"),
        ("train_0.tar", "VALID_0.TAR"),
        ("shards/set-train.tar", "shards/set-val.tar"),
        ("data/training/a.tar", "data/validation/a.tar"),
    ],
)
def test_splits_in_names_and_folders(tmp_path, train, val):
    root = in_shards(
        tmp_path / "s", {train: {"a.png": 1, "a.cls": b"0"}, val: {"b.png": 2, "b.cls": b"1"}}
    )
    assert build_dataset("shards", root).paths == [f"{train}/a.png"]
    assert build_dataset("shards", root, "val").paths == [f"{val}/b.png"]


def test_shards_without_the_name_of_a_split(tmp_path):
    root = in_shards(tmp_path / "s", {"train-0.tar": {"a.png": 1}, "more-0.tar": {"b.png": 2}})
    train = build_dataset("shards", root)
    assert (
        len(train) == 1
        and "1 shard without the name of a split left out: more-0.tar"
        in train.remarks.sentences()[0]
    )
    root = in_shards(tmp_path / "t", {"val-0.tar": {"a.png": 1}, "more-0.tar": {"b.png": 2}})
    train = build_dataset("shards", root)
    assert train.paths == ["more-0.tar/b.png"] and "taken for train" in train.remarks.sentences()[0]
    in_shards(tmp_path / "u", {"val/train-0.tar": {"a.png": 1}})
    with pytest.raises(DataError, match="says split train, its folder val"):
        build_dataset("shards", tmp_path / "u")


def test_keys_with_dots_and_several_pictures_of_a_key(tmp_path):
    members = {"i.22.05.png": 1, "i.22.05.cls": b"3", "b.png": 2, "b.cls": b"7", "b.seg.png": 3}
    members |= {
        "c.png": 4,
        "c.jpg": 5,
        "d.left.png": 6,
        "d.right.png": 7,
        "d.cls": b"3",
        "._b.png": 8,
    }
    members |= {"e.heic": b"x", "f.cls": b"1", "b.json": b"{}"}
    data = build_dataset("shards", in_shards(tmp_path / "s", {"0.tar": members}))
    names = [path.split("/")[1] for path in data.paths]
    assert names == ["i.22.05.png", "b.png", "c.jpg", "d.left.png", "d.right.png"]
    assert data.labels.tolist() == [0, 1, -1, 0, 0] and data.classes == ["3", "7"]
    said = "\n".join(data.remarks.sentences())
    for words in (
        "KEY.png): 1",
        "thumbnails): 1",
        "with another: 2",
        "without a picture: 1",
        "1 .heic",
        "1 of 5 pictures",
    ):
        assert words in said
    assert "json" not in said


def test_class_numbers_of_any_size_cost_nothing(tmp_path):
    data = build_dataset(
        "shards",
        in_shards(
            tmp_path / "s",
            {"0.tar": {"a.png": 1, "a.cls": b"200000000", "b.png": 2, "b.cls": b"5"}},
        ),
    )
    assert data.labels.tolist() == [1, 0] and data.classes == ["5", "200000000"]
    for text in (b"9" * 30, b"-5", b"1_0", b"", b"cat"):
        in_shards(tmp_path / "t", {"0.tar": {"a.png": 1, "a.cls": text}})
        with pytest.raises(DataError, match="is not the number of a class"):
            build_dataset("shards", tmp_path / "t")


def test_damage_in_the_middle_is_noticed(tmp_path):
    """One flipped bit in a header, or a hole of zeros, ended the shard there without a word."""
    shard = (
        in_shards(tmp_path / "s", {"train-0.tar": {f"{i:02d}.png": i for i in range(20)}})
        / "train-0.tar"
    )
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        start = archive.getmembers()[10].offset
    flipped = bytearray(whole)
    flipped[start + 2] ^= 1
    for damaged in (
        bytes(flipped),
        whole[:start] + bytes(1024) + whole[start + 1024 :],
        whole[: start + 100],
    ):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"damaged at byte {start:,}"):
            build_dataset("shards", shard.parent)
    shard.write_bytes(whole[:start])
    data = build_dataset("shards", shard.parent)
    assert len(data) == 10 and "without an end mark" in data.remarks.sentences()[0]


def test_an_index_that_does_not_fit_is_made_again(root, tmp_path):
    first = build_dataset("shards", root)
    for file in (tmp_path / "indices").iterdir():
        with np.load(file) as arrays:
            kept = dict(arrays)
        np.savez(file, **kept | {"size": kept["size"] + 10**6})
    again = build_dataset("shards", root)
    assert torch.equal(again.image(3), first.image(3)) and again.paths == first.paths


def test_real_shards(real_data):
    data = build_dataset("shards", real_data / "data/tinyimagenet20k")
    assert (
        len(data) == 20_000
        and len(data.classes) == 200
        and np.bincount(data.labels).tolist() == [100] * 200
    )
    with tarfile.open(data.file(15_000)) as archive:
        name = data.paths[15_000].split("/")[1]
        expected = decode_image(archive.extractfile(name).read(), name)
    assert torch.equal(data.image(15_000), expected)
    fit, val = (
        build_dataset("shards", real_data / "data/tinyimagenet20k", s) for s in ("fit", "val")
    )
    assert np.bincount(val.labels).tolist() == [20] * 200 and len(fit) == 16_000
