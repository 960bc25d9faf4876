import json
import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_parts.errors import PartDiscoveryError
from ssl_parts.files import write_atomic
from ssl_parts.parts.palette import colours
from ssl_parts.parts.store import PartStore, StoreInfo, fingerprint

INFO = StoreInfo(
    count=10,
    size=4,
    k=5,
    background=0,
    provenance={"images": fingerprint([f"{i}.png" for i in range(10)])},
)


def ids(rows):
    return torch.stack([(torch.arange(16).view(4, 4) + r) % 5 for r in rows]).to(torch.uint8)


def full(path=None):
    store = PartStore(INFO) if path is None else PartStore.create(path, INFO)
    store.write(range(10), ids(range(10)))
    return store


def test_what_is_written_is_read_back_after_opening_again(tmp_path):
    full(tmp_path / "parts")
    store = PartStore.open(tmp_path / "parts")
    assert (len(store), store.k, store.size, store.background, store.scope) == (
        10,
        5,
        4,
        0,
        "image",
    )
    assert store[3].dtype == torch.uint8 and torch.equal(store[3], ids([3])[0])
    assert torch.equal(store.batch([7, 2, 2]), ids([7, 2, 2]))
    assert torch.equal(store.batch(torch.tensor([9])), ids([9]))
    store.verify([f"{i}.png" for i in range(10)])


def test_unfinished_rows_are_known_and_never_handed_out(tmp_path):
    store = PartStore.create(tmp_path / "parts", INFO)
    store.write([4, 5], ids([4, 5]))
    again = PartStore.create(tmp_path / "parts", INFO)  # what a restarted run does
    assert again.pending().tolist() == [0, 1, 2, 3, 6, 7, 8, 9] and not again.complete
    assert torch.equal(again[5], ids([5])[0])
    with pytest.raises(PartDiscoveryError, match=r"no ids yet for 1 .*first: 6"):
        again.batch([4, 6])
    with pytest.raises(PartDiscoveryError, match="8 of 10 images have no ids"):
        again.verify()


def test_ids_reach_the_file_before_the_row_counts_as_done(tmp_path, monkeypatch):
    store = PartStore.create(tmp_path / "parts", INFO)
    order = []
    monkeypatch.setattr(
        "ssl_parts.parts.store._flush",
        lambda array: order.append((array is store._ids, store._done[3])),
    )
    store.write([3], ids([3]))
    assert order == [(True, False), (False, True)]


def test_other_settings_are_refused_with_the_difference(tmp_path):
    PartStore.create(tmp_path / "parts", replace(INFO, provenance={"config": {"k": 4, "size": 4}}))
    other = replace(INFO, provenance={"config": {"k": 4, "size": 8}})
    with pytest.raises(PartDiscoveryError, match=r"provenance.config.size: 4 there, 8 now"):
        PartStore.create(tmp_path / "parts", other)


@pytest.mark.parametrize("broken", ["missing", "meta", "version", "shape", "ids"])
def test_broken_stores_are_named(tmp_path, broken):
    path = tmp_path / "parts"
    full(path)
    if broken == "missing":
        path = tmp_path / "nothing"
    elif broken == "meta":
        (path / "meta.json").write_text("{")
    elif broken == "version":
        (path / "meta.json").write_text(json.dumps({"version": 99}))
    elif broken == "shape":
        np.save(path / "ids.npy", np.zeros((3, 4, 4), np.uint8))
    else:
        (path / "ids.npy").write_bytes(b"not an array")
    with pytest.raises(PartDiscoveryError, match=str(path.name)):
        PartStore.open(path)


def test_verify_sees_foreign_images_and_impossible_ids(tmp_path):
    store = full(tmp_path / "parts")
    with pytest.raises(PartDiscoveryError, match="other images"):
        store.verify([f"{i}.png" for i in range(9, -1, -1)])
    store._ids[6, 0, 0] = 200
    with pytest.raises(PartDiscoveryError, match="id 200"):
        store.verify()


def test_bad_writes():
    store = PartStore(INFO)
    with pytest.raises(PartDiscoveryError, match="from 5 to 5"):
        store.write([0], torch.full((1, 4, 4), 5, dtype=torch.uint8))
    with pytest.raises(PartDiscoveryError, match="shape"):
        store.write([0, 1], ids([0]))
    with pytest.raises(PartDiscoveryError, match="image 10"):
        store.batch([10])
    with pytest.raises(PartDiscoveryError, match="scope"):
        PartStore(replace(INFO, scope="galaxy"))


def _write_share(path, rank, world):
    store = PartStore.create(path, INFO)
    rows = list(range(rank, 10, world))
    for row in rows:
        store.write([row], ids([row]))


def test_processes_that_start_together_fill_one_store(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_write_share, args=(tmp_path / "parts", rank, 3))
        for rank in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    store = PartStore.open(tmp_path / "parts")
    store.verify()
    assert torch.equal(store.batch(range(10)), ids(range(10)))
    assert [p.name for p in tmp_path.iterdir()] == ["parts"]  # no temporaries are left


def test_png_export_keeps_ids_and_shows_the_palette(tmp_path):
    full().export_png(
        tmp_path / "png", names=[f"some/dir/bird_{i}.jpg" for i in range(10)], indices=[2, 5]
    )
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == [
        "0000002_bird_2.png",
        "0000005_bird_5.png",
    ]
    picture = Image.open(tmp_path / "png" / "0000005_bird_5.png")
    assert np.array_equal(np.array(picture), ids([5])[0].numpy())
    assert np.array_equal(np.array(picture.convert("RGB")), colours(5, 0)[ids([5])[0].numpy()])


def test_names_that_are_no_utf8_are_told_apart_and_can_be_written(tmp_path):
    names = [os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"caf\xe8.jpg")]
    assert fingerprint(names[:1]) != fingerprint(names[1:])
    write_atomic(tmp_path / "file", names[0])
    assert (tmp_path / "file").read_text() == "caf\\udce9.jpg"
