"""launch/discover.py: a folder in; ids, contact sheet and statistics out; shared, killed, resumed,
repeated.
"""

import copy
import functools
import itertools
import json
import os
import re
import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from ssl_parts.errors import ConfigError, PartDiscoveryError
from ssl_parts.jobs import discover as discovery
from ssl_parts.parts import PartStore
from ssl_parts.parts.config import METHOD_CONFIGS, PerImageConfig
from ssl_parts.recipes.load import load_discovery

REPO = Path(__file__).resolve().parents[2]
TINY = [
    "encoder=resnet18_small", "encoder.width=0.125", "data.size=48", "parts=dataset", "parts.k=3", "parts.size=8",
    "parts.foreground.size=8", "parts.foreground.clusters=[4]", "parts.batch=8", "run.device=cpu", "run.threads=1",
]  # fmt: skip
COUNT = 20


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Grey noise with a disc, half red and half blue."""
    folder = tmp_path_factory.mktemp("photographs")
    y, x = np.mgrid[:48, :48]
    for i in range(COUNT):
        rng = np.random.default_rng(i)
        row, column = rng.integers(20, 28, 2)
        disc = (y - row) ** 2 + (x - column) ** 2 < 150
        pixels = rng.integers(90, 140, (48, 48, 3))
        pixels[disc] = np.where((x < column)[disc][:, None], (220, 40, 40), (40, 60, 220))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def no_processes():
    PartialState._reset_state()


@functools.cache
def tiny():
    return load_discovery("default", [*TINY, "data.root=x"])


def configured(photographs, runs, **changes):
    """The tiny recipe with changes such as `run__name="b"`; composed once, which is slow."""
    config = copy.deepcopy(tiny())
    for key, value in {"data__root": str(photographs), "run__dir": str(runs), **changes}.items():
        room, name = key.split("__")
        setattr(getattr(config, room), name, value)
    config.check()
    return config


def ids_of(folder):
    store = PartStore.open(folder / "parts")
    return store.batch(range(len(store)))


@pytest.fixture(scope="module")
def unbroken(photographs, tmp_path_factory):
    """The folder of a discovery in one go."""
    PartialState._reset_state()
    config = configured(photographs, tmp_path_factory.mktemp("runs"))
    discovery.discover(config)
    return config.run.folder


def test_folder_in_ids_picture_and_numbers_out(photographs, tmp_path, monkeypatch, capsys):
    words = [
        *TINY,
        f"data.root={photographs}",
        f"run.dir={tmp_path}",
        "run.name=a",
        "run.png=true",
        "run.pictures=5",
    ]
    monkeypatch.setattr(sys, "argv", ["discover.py", *words])
    runpy.run_path(str(REPO / "launch/discover.py"), run_name="__main__")
    folder, printed = tmp_path / "a", capsys.readouterr().out
    ids = ids_of(folder)
    assert ids.shape == (COUNT, 8, 8) and str(folder / "parts") in printed
    results = json.loads((folder / "results.json").read_text())
    statistics = results["extra"]["statistics"]
    assert statistics["foreground_share"] == pytest.approx(float((ids > 0).float().mean()))
    assert (
        statistics["used"] == len(ids[ids > 0].unique())
        and f"{statistics['foreground_share']:.4g}" in printed
    )
    assert results["extra"]["config"]["parts.k"] == 3 and results["extra"]["ids"] == 4
    assert results["rows"] == []
    assert Image.open(folder / "parts.png").size == (5 * (320 + 4) + 320 + 4 - 4, 160)
    pictures = sorted((folder / "png").iterdir())
    assert len(pictures) == COUNT and np.array_equal(np.array(Image.open(pictures[7])), ids[7])


def in_process(config, rank=0, world=1, port=0):
    """What torchrun gives a process, in a fork of this one: nothing has to be imported again."""
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": world,
        "MASTER_PORT": port,
    }
    child = os.fork()
    if child:
        return child
    try:
        if world > 1:
            os.environ.update(
                {key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1"
            )
        discovery.discover(config)
        os._exit(0)
    finally:
        os._exit(1)


def test_two_processes_do_what_one_does(photographs, tmp_path, unbroken, unused_port):
    config = configured(photographs, tmp_path)
    children = [in_process(config, rank, 2, unused_port) for rank in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert torch.equal(ids_of(config.run.folder), ids_of(unbroken))
    there, here = (
        json.loads((folder / "results.json").read_text())
        for folder in (unbroken, config.run.folder)
    )
    assert there["extra"]["statistics"] == here["extra"]["statistics"]


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_killed_and_started_again(photographs, tmp_path, unbroken, monkeypatch):
    config = configured(photographs, tmp_path)
    advance = discovery.Progress.advance
    with monkeypatch.context() as slow:
        slow.setattr(
            discovery.Progress, "advance", lambda *given: (advance(*given), time.sleep(60))
        )
        child = in_process(config)
    done = config.run.folder / "parts" / "done.npy"
    deadline = time.time() + 120
    while not done.exists() or not np.load(done).any():
        assert time.time() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert 0 < len(PartStore.open(config.run.folder / "parts").pending()) < COUNT
    discovery.discover(config)
    assert torch.equal(ids_of(config.run.folder), ids_of(unbroken))


def test_parts_of_other_images_mean_the_same(photographs, tmp_path, unbroken):
    fitted = {"run__fitted": f"{unbroken}/parts"}
    results = discovery.discover(configured(photographs, tmp_path, parts__seed=5, **fitted))
    assert torch.equal(ids_of(tmp_path / "discovery"), ids_of(unbroken))
    assert results.extra["config"]["run.fitted"] == f"{unbroken}/parts"
    for change, said in (
        ({"parts__k": 2}, "parts.k: 3 there, 2 now"),
        ({"parts__size": 16}, "parts.size: 8 there, 16 now"),
        ({"encoder__width": 0.25}, "encoder.hash"),
    ):
        with pytest.raises(PartDiscoveryError, match=said):
            discovery.discover(configured(photographs, tmp_path, run__name="b", **fitted, **change))


def test_ids_are_numbered_as_in_the_round_before(photographs, tmp_path, unbroken):
    discovery.discover(configured(photographs, tmp_path, parts__seed=3))
    matched = configured(
        photographs, tmp_path, parts__seed=3, run__name="matched", run__previous=f"{unbroken}/parts"
    )
    results = discovery.discover(matched)
    before, found, unmatched = (
        ids_of(f) for f in (unbroken, matched.run.folder, tmp_path / "discovery")
    )
    assert normalized_mutual_info_score(found.flatten(), unmatched.flatten()) == pytest.approx(
        1
    )  # only the names differ
    orders = [
        torch.tensor([0, *order])[unmatched.long()] for order in itertools.permutations((1, 2, 3))
    ]
    assert (
        (found == before).sum()
        == max((ids == before).sum() for ids in orders)
        > (unmatched == before).sum()
    )
    expected = normalized_mutual_info_score(before.flatten(), found.flatten())
    assert results.extra["statistics"]["nmi_previous"] == pytest.approx(expected)


def test_a_round_before_of_other_images(photographs, tmp_path, unbroken):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photographs.iterdir())[:12]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(PartDiscoveryError, match="20 images, this data set 12"):
        discovery.discover(configured(few, tmp_path, run__previous=f"{unbroken}/parts"))


@pytest.mark.parametrize(
    "words, said",
    [
        (["run.pngs=true"], "did you mean 'run.png'"),
        (["run.png=true", "parts=per_imag"], "did you mean 'per_image'"),
        (["run.png=true", "parts.k=many"], "parts.k"),
        (["parts.k=70", "parts.size=8"], "parts.size=8 gives 64 points"),
    ],
)
def test_wrong_words_are_told_in_one_line(words, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_discovery("default", ["data.root=x", *words])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, error, said",
    [
        ({"run__device": "tpu"}, ConfigError, "run.device='tpu'"),
        ({"run__name": "../a"}, ConfigError, r"run.name='\.\./a'"),
        ({"run__fitted": "nowhere"}, PartDiscoveryError, "nowhere is not a readable part store"),
    ],
)
def test_mistakes_are_told(photographs, tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        discovery.discover(configured(photographs, tmp_path, **changes))


def test_too_many_parts_for_an_image_name_it(photographs, tmp_path):
    config = configured(photographs, tmp_path)
    config.parts = PerImageConfig(k=50, size=8, foreground=config.parts.foreground)
    with pytest.raises(PartDiscoveryError, match=r"parts\.k=50 but .*\d\d\.png has"):
        discovery.discover(config)


@pytest.mark.parametrize(
    "path", sorted((REPO / "configs/parts").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_compose_and_say_their_command(path):
    parts = load_discovery("default", ["data.root=x", f"parts={path.stem}"]).parts
    assert parts.method in METHOD_CONFIGS
    assert re.search(rf"launch/discover.py data=.*parts={path.stem}\b", path.read_text())
