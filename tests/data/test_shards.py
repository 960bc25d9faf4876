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
    monkeypatch.setattr(module, "_read_shard", lambda shard: pytest.fail("read again"))
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
    # a.b.png has the suffix .b.png; the link is no file
    assert len(data) == 2 and data.split == "train"
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
    write_shard(write, [("a.png", encoded(0)), ("a.jpg", encoded(0))])
    with pytest.raises(DataError, match="two images of the key"):
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
