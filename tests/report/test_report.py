"""The report of a run: on folders written here, whole and partial; what a browser would fetch or
run is looked for.
"""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from evaluation.results import Measure, Row, save_results
from ssl_parts.configuration.compose import to_yaml
from ssl_parts.errors import DataError
from ssl_parts.recipes.load import load_recipe
from ssl_parts.report import compared_as_text, runs_below, write_comparison, write_report
from ssl_parts.report.health import findings
from ssl_parts.report.published import PUBLISHED

REPO = Path(__file__).resolve().parents[2]
MEGABYTE = 1 << 20


def rows_of(name, linear, few, parts):
    found = {
        "linear": {"accuracy": Measure.of([linear])},
        "few_label": {"accuracy@5": Measure.of(few)},
        "parts": {"miou@20": Measure.of(parts)},
    }
    return [
        Row(name, protocol, 1, "<birds>", {}, 64, "crop", "", "", "none", [], values)
        for protocol, values in found.items()
    ]


ROWS = {
    "base": rows_of("base", 0.30, (0.10, 0.14), (0.40, 0.42)),
    "base + instance contrast": rows_of(
        "base + instance contrast", 0.31, (0.11, 0.15), (0.41, 0.43)
    ),
    "base + PARTICLE": rows_of("base + PARTICLE", 0.375, (0.20, 0.24), (0.50, 0.52)),
}


def picture(path, size=(389, 131), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_run(
    folder, name="made", data="synthetic_birds", rounds=2, pictures=True, size=(389, 131)
):
    folder.mkdir(parents=True)
    run = {"name": name, "dir": str(folder.parent), "seed": 3, "control": True, "evaluate": True}
    config = {
        "run": run,
        "data": {"name": data, "size": 64, "fit": "crop"},
        "encoder": {"name": "resnet18"},
    }
    config |= {"parts": {"method": "per_image", "k": 6}, "train": {"rounds": rounds, "epochs": 5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"python": "3.11", "cuda": [], "packages": {"torch": "2.15"}, "commit": "abc123"}
    (folder / "environment.json").write_text(json.dumps(environment))
    lines = [
        {
            "phase": "base",
            "step": s,
            "lr": 0.1,
            "loss": 9 - s / 50,
            "instance": 9 - s / 50,
            "feature_std": 0.5,
            "rank_me": 20.0,
        }
        for s in range(10, 110, 10)
    ]
    for number in range(rounds):
        lines.append(
            {
                "phase": f"parts {number}",
                "images": 50,
                "usage_entropy": 0.9,
                "foreground_share": 0.3,
                "empty": 0,
            }
        )
        losses = {
            "loss": 8.0,
            "part": 4.5,
            "instance": 3.5,
            "shared_parts": 3.0,
            "feature_std": 0.6,
            "rank_me": 22.0,
        }
        lines += [{"phase": f"round {number}", "step": s, "lr": 0.1, **losses} for s in (10, 20)]
        if pictures:
            picture(folder / f"round_{number:03d}" / "parts.png", size, number)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [row for arm in ROWS.values() for row in arm]
    save_results(folder / "results.json", "pretrain", rows, run=name, seconds=3700)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "made")
    return write_report(folder).read_text()


class Reader(HTMLParser):
    """Elements that were opened and never closed, attributes that load something, and the text."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "use"})

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.tags, self.text = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [
            value for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "data")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(page):
    return " ".join(" ".join(Reader(page).text).split())


def test_page_is_whole_and_loads_nothing(page):
    reader = Reader(page)
    assert reader.open == []
    assert "script" not in reader.tags
    assert all(value.startswith(("data:", "#")) for value in reader.loads)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", page)
    assert len(page) < 3 * MEGABYTE


def test_every_anchor_of_the_page_exists(page):
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert {"results", "parts", "curves"} <= ids
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids


def test_results_are_in_percent_with_the_difference_to_the_base(page):
    text = words(page)
    assert "37.5 +7.5" in text
    assert "22.0 ± 2.8 +10.0" in text  # few labels: mean of 0.20 and 0.24, sample deviation 0.0283
    assert "linear v1 on <birds>" in text  # escaped, not swallowed as an element


def test_parts_of_each_round_are_pictures_of_the_same_shape(page):
    uris = re.findall(
        r'src="data:image/webp;base64,([^"]+)" width="(\d+)" height="(\d+)" alt="Round (\d)"', page
    )
    assert [number for *_, number in uris] == ["0", "1"]
    for content, width, height, _ in uris:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.size == (int(width), int(height))
            assert image.width / image.height == pytest.approx(389 / 131, rel=0.02)


def test_every_phase_has_its_curves(page):
    labels = re.findall(r'aria-label="([^"]+)"', page)
    assert {"losses of base by step", "losses of round 1 by step", "rank_me by step"} <= set(labels)
    assert "currentColor" in page and "#010203" not in page


def test_many_large_pictures_stay_under_three_megabytes(tmp_path):
    # noise: the worst case for any codec
    folder = write_run(tmp_path / "long", rounds=6, size=(1556, 524))
    assert write_report(folder).stat().st_size < 3 * MEGABYTE


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("results.json", "has not come to its evaluation"),
        ("environment.json", "environment.json is not there"),
        ("config.yaml", "config.yaml is not there"),
        ("metrics.jsonl", "nothing was logged yet"),
        ("round_001/parts.png", "Round 0"),
    ],
)
def test_partial_run_says_what_is_missing(tmp_path, missing, said):
    folder = write_run(tmp_path / "run")
    (folder / missing).unlink()
    assert said in words(write_report(folder).read_text())


def test_only_a_configuration_is_enough(tmp_path):
    folder = write_run(tmp_path / "run")
    for path in [*folder.glob("*.json*"), *folder.glob("round_*/*")]:
        path.unlink()
    text = words(write_report(folder).read_text())
    assert "Not finished yet." in text and "No training step was logged yet." in text


def test_evaluated_arms_of_an_unfinished_run_are_shown(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "results.json").unlink()
    save_results(folder / "evaluation" / "base.json", "pretrain", ROWS["base"], arm="base")
    text = words(write_report(folder).read_text())
    assert "30.0" in text and "The result of the last round is not evaluated yet." in text


def test_results_of_the_first_version_are_read(tmp_path):
    """Arms by name, as a run wrote them before rows: in results.json and in evaluation/."""
    arm = {
        "values": {"linear": {"mean": 0.3, "sd": None, "values": [0.3], "interval": None}},
        "note": "C=1, as it was said then.",
    }
    folder = write_run(tmp_path / "run")
    (folder / "results.json").write_text(json.dumps({"schema": 1, "rows": {"base": arm}}))
    text = words(write_report(folder).read_text())
    assert "linear, all labels" in text and "30.0" in text and "as it was said then" in text
    (folder / "results.json").unlink()
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "base.json").write_text(json.dumps(arm))
    assert "30.0" in words(write_report(folder).read_text())


def test_damaged_files_are_told_and_do_not_stop_the_report(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"phase": "round 1", "st')
    (folder / "results.json").write_text("{")
    (folder / "round_000" / "parts.png").write_bytes(b"not a picture")
    text = words(write_report(folder).read_text())
    assert "1 damaged line of metrics.jsonl" in text
    assert "results.json cannot be read" in text
    assert "parts.png cannot be shown" in text


def test_unlabelled_data_says_why_there_is_no_table(tmp_path):
    folder = write_run(tmp_path / "run", data="folder")
    save_results(folder / "results.json", "pretrain", [], run="made", seconds=9)
    assert "neither classes nor part masks" in words(write_report(folder).read_text())


def test_not_finite_losses_leave_a_gap(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(
            '{"phase": "round 1", "step": 30, "loss": NaN, "part": 1.0, "rank_me": Infinity}\n'
        )
    assert "losses of round 1 by step" in write_report(folder).read_text()


def test_published_numbers_stand_beside_their_data_set_only(tmp_path, page):
    cub = words(write_report(write_run(tmp_path / "cub", data="cub")).read_text())
    assert "42.0" in cub and "2309.13822" in cub and "this run: base + PARTICLE 37.5" in cub
    assert "2309.13822" not in words(page)


def test_published_table_is_the_one_of_the_methods():
    known = {(row.data, row.model): row.percent for row in PUBLISHED}
    assert known["cars", "ResNet-50, DetCon + PARTICLE"] == 37.4
    assert known["aircraft", "ViT-S/8, DINO + PARTICLE, released weights"] == 73.59
    assert known["pascub", "ViT-S/8 + PARTICLE, released weights"] == 50.59
    assert len(known) == len(PUBLISHED) == 29
    assert all(row.source for row in PUBLISHED)


def test_health_points_at_collapse_and_lost_rank():
    sick = [{"step": 1, "feature_std": 0.8, "rank_me": 40.0, "shared_parts": 3.0}]
    sick.append({"step": 2, "feature_std": 0.05, "rank_me": 10.0, "shared_parts": 0.5})
    bad = [finding for finding in findings({"round 0": sick}, {}) if not finding.fine]
    assert len(bad) == 3
    well = [
        {"step": 1, "feature_std": 0.8, "rank_me": 40.0},
        {"step": 2, "feature_std": 0.7, "rank_me": 35.0},
    ]
    assert all(finding.fine for finding in findings({"round 0": well}, {}))
    assert not findings({}, {1: {"images": 100, "empty": 10}})[0].fine


def test_differences_from_the_nearest_recipe(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    changed = load_recipe("quickstart", ["train.epochs=77", "run.name=mine"])
    (folder / "config.yaml").write_text(to_yaml(changed))
    text = words(write_report(folder).read_text())
    assert "configs/pretrain/quickstart.yaml. One key differs" in text
    assert re.search(r"train\.epochs \d+ 77", text)


def test_comparison_has_each_run_and_what_differs(tmp_path):
    one, two = (write_run(tmp_path / name, name) for name in ("one", "two"))
    config = yaml.safe_load((two / "config.yaml").read_text())
    config["parts"]["k"] = 12
    (two / "config.yaml").write_text(yaml.safe_dump(config))
    page = write_comparison([one, two], tmp_path / "both.html").read_text()
    assert Reader(page).open == []
    assert "parts.k 6 12" in words(page) and "train.epochs" not in words(page)
    table = compared_as_text([one, two]).splitlines()
    assert len(table) == 2 + 6 and "37.5 (+7.5)" in table[-1] and table[-1].startswith("| two")


def test_a_folder_without_a_run_is_an_error_that_names_the_runs_below(tmp_path):
    write_run(tmp_path / "runs" / "one")
    with pytest.raises(DataError, match=r"holds no run.*one"):
        write_report(tmp_path / "runs")


def test_seeds_of_a_comparison_are_found(tmp_path):
    seeds = [write_run(tmp_path / "cub" / f"seed_{s}") for s in (0, 1)]
    assert runs_below(tmp_path / "cub") == seeds
    assert runs_below(seeds[0]) == [seeds[0]]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    old = write_report(folder).read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == old


def test_launch_script_writes_and_compares(tmp_path):
    runs = [str(write_run(tmp_path / name, name, pictures=False)) for name in ("one", "two")]
    out = tmp_path / "both.html"
    command = [sys.executable, str(REPO / "launch" / "report.py"), *runs, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"Report: {runs[1]}/report.html" in done.stdout and "37.5 (+7.5)" in done.stdout
    assert out.is_file() and (Path(runs[0]) / "report.html").is_file()
    failed = subprocess.run([*command[:2], str(tmp_path)], capture_output=True, text=True)
    assert (
        failed.returncode == 1
        and failed.stderr.startswith("DataError: ")
        and "Traceback" not in failed.stderr
    )
