"""Pictures of a run: on a run made here without training, each computation against a plain one."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from ssl_parts.configuration.compose import to_yaml
from ssl_parts.data import build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.checkpoint import save_tensors
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.parts import discover_parts
from ssl_parts.pretraining.stages import Run
from ssl_parts.recipes.load import load_recipe
from ssl_parts.report import write_report
from ssl_parts.report.pictures import report_pictures
from ssl_parts.report.pictures.album import framed, strip
from ssl_parts.report.pictures.atlas import part_vectors
from ssl_parts.report.pictures.before_after import _nearest, _same
from ssl_parts.report.pictures.looks import look_at, readable
from ssl_parts.report.pictures.mistakes import confused_pairs, probe

SMALL = [
    "data.images=24", "data.test_images=16", "data.size=48", "data.species=4", "encoder.width=0.125", "train.rounds=2",
    "parts.size=8", "parts.k=3", "parts.foreground.size=8", "parts.batch=8", "views.size=48", "views.ids_size=8",
]  # fmt: skip


def make_run(folder, overrides=SMALL):
    """What a finished run leaves, with another random encoder after each round."""
    config = load_recipe("quickstart", [f"run.dir={folder}", "run.name=made", *overrides])
    accelerator = SimpleNamespace(device=torch.device("cpu"), is_main_process=True)
    run = Run(
        config,
        folder / "made",
        build_bank(config.data),
        accelerator,
        MetricsLog(folder / "none", False),
        None,
    )
    weights = run.base
    for number in range(-1, config.train.rounds):
        path = weights if number < 0 else run.round_folder(number) / "encoder.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(number + 1)
        encoder = make_encoder(config.encoder).eval()
        if number >= 0:
            discover_parts(
                run.encoder(weights), run.bank, config.parts, run.round_folder(number) / "parts"
            )
        save_tensors(path, encoder.state_dict())
        weights = path
    (run.folder / "config.yaml").write_text(to_yaml(config))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("runs"))
    report_pictures(made)
    return made


@pytest.fixture(scope="module")
def index(run):
    return json.loads((run.folder / "pictures" / "index.json").read_text())


def test_every_section_is_there_and_every_picture_can_be_read(run, index):
    anchors = [section["anchor"] for section in index["sections"]]
    assert anchors == [
        "rounds",
        "atlas",
        "components",
        "neighbours",
        "confusion",
        "failures",
        "views",
    ]
    for section in index["sections"]:
        assert section["pictures"] or section["gaps"]
        for picture in section["pictures"]:
            with Image.open(run.folder / "pictures" / picture["file"]) as image:
                assert min(image.size) >= 64


def test_the_report_embeds_them_in_place_of_the_contact_sheets(run, index):
    page = write_report(run.folder).read_text()
    count = sum(len(section["pictures"]) for section in index["sections"])
    assert len(re.findall(r'<img\s[^>]*src="data:image/webp', page)) == count
    assert len(page) < 3 << 20
    assert 'id="rounds"' in page and 'id="parts"' not in page


def test_nothing_is_drawn_twice(run):
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "pictures").iterdir()}
    report_pictures(run)
    assert before == {path: path.stat().st_mtime_ns for path in (run.folder / "pictures").iterdir()}


def test_a_damaged_album_is_told(run, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    (tmp_path / "pictures" / "index.json").write_text('{"version": 1')
    assert "cannot be read" in write_report(tmp_path).read_text()


def test_unlabelled_images_without_test_set(tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    free = ["data=folder", f"data.root={tmp_path / 'images'}", "data.size=48", "train.rounds=1"]
    run = make_run(
        tmp_path, [*free, *(word for word in SMALL if not word.startswith(("data.", "train.")))]
    )
    report_pictures(run)
    sections = {
        s["anchor"]: s
        for s in json.loads((run.folder / "pictures" / "index.json").read_text())["sections"]
    }
    assert sections["confusion"]["gaps"] == ["There are no test images."]
    assert "training image" in sections["neighbours"]["texts"][0] and "Framed" not in str(
        sections["neighbours"]
    )


# ---------------------------------------------------------------- what the pictures rest on


def test_part_vectors_are_means_over_the_part(run):
    looks = look_at(run)
    parts = part_vectors(looks, np.arange(4))
    encoder, store = looks.encoders["after"].eval(), looks.store
    with torch.no_grad():
        maps = encoder(run.bank.images(range(4)).float() / 255).maps[encoder.last_stage]
    fine = torch.nn.functional.interpolate(maps, (8, 8), mode="bilinear", align_corners=False)
    seen = set()
    for vector, image, number in zip(parts.vectors_MD, parts.image_M, parts.id_M, strict=True):
        mean = fine[image][:, store[image] == number].mean(1)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-3)
        seen.add((int(image), int(number)))
    ids = [store[i].unique().tolist() for i in range(4)]
    assert seen == {(i, k) for i in range(4) for k in ids[i] if k != store.background}
    assert (parts.box_M4 >= -1e-6).all() and (parts.box_M4 <= 1 + 1e-6).all()


def test_neighbours_are_those_of_scikit_learn(run):
    looks = look_at(run)
    model = NearestNeighbors(n_neighbors=5, metric="cosine").fit(looks.gallery_vectors["before"])
    wanted = model.kneighbors(looks.query_vectors["before"], return_distance=False)
    found = _nearest(looks, "before")
    assert (found == wanted).mean() > 0.95  # ties aside
    same = [
        [looks.gallery.labels[g] == looks.queries.labels[q] for g in row]
        for q, row in enumerate(found)
    ]
    assert (_same(looks, found) == np.array(same)).all()


def test_confused_pairs_are_counted_and_ordered():
    truth = np.array([0] * 5 + [1] * 4 + [2] * 10)
    guess = np.array([1, 1, 1, 0, 2] + [0, 0, 0, 1] + [2] * 9 + [1])
    assert confused_pairs(truth, guess) == [
        (1, 0),
        (0, 1),
        (0, 2),
        (2, 1),
    ]  # 3 of 4 before 3 of 5, 1 of 5 before 1 of 10
    assert confused_pairs(truth, truth) == []


def test_the_probe_separates_what_can_be_separated(run):
    looks = look_at(run)
    easy = np.eye(4)[looks.gallery.labels] + 0.01, np.eye(4)[looks.queries.labels] + 0.01
    looks.__dict__["gallery_vectors"], looks.__dict__["query_vectors"] = (
        {"after": easy[0]},
        {"after": easy[1]},
    )
    found = probe(looks, "after")
    assert (found.label_Q == looks.queries.labels).all() and (found.probability_Q > 0.9).all()


def test_frames_and_strips_put_tiles_where_they_belong():
    tiles = [torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (10, 20, 30)]
    sheet = strip(tiles, 2, gap=4)
    assert sheet.shape == (3, 36, 36)
    assert [int(sheet[0, y, x]) for y, x in ((0, 0), (0, 20), (20, 0), (20, 20))] == [
        10,
        20,
        30,
        128,
    ]
    found = framed(tiles[0], (1, 2, 3), 2)
    assert (
        found[:, 0, 5].tolist() == [1, 2, 3]
        and found[0, 8].tolist() == [1] * 2 + [10] * 12 + [1] * 2
    )


def test_class_names_are_readable():
    assert readable("001.Black_footed_Albatross") == "Black footed Albatross"
    assert readable("jay") == "jay"
