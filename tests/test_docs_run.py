"""Every command and every Python block of README and docs, run on a tiny folder, in reading order,
in this process.

Left out, because they are what this test suite itself runs in: making a virtual environment,
installing, pytest, ruff.
"""

import re
import runpy
import subprocess
import sys

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from doc_blocks import BLOCKS, REPO, SHELL_BLOCKS, SHELLS, commands, shrunk
from doc_place import make_place
from torch.distributed.run import get_args_parser

from ssl_parts.encoders import open_encoder

SETTING_UP = ("python3", ".", "pip", "pytest", "ruff", "make", "pre-commit", "git", "cd")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


def run_command(words, mark):
    """One command of the documentation; launchers are parsed by their own parsers and start one
    process.
    """
    if words[0] in SETTING_UP:
        check_setting_up(words)
        return
    if words[0] == "sbatch":
        subprocess.run(["bash", "-n", next(w for w in words if w.endswith(".sbatch"))], check=True)
        after = next(i for i, w in enumerate(words) if w.endswith(".sbatch"))
        words = ["python", "launch/pretrain.py", *words[after + 1 :]]
    run_script(*script_of(shrunk(words, mark)))


def check_setting_up(words):
    assert all((REPO / word).is_file() for word in words if word.endswith(".txt"))
    listed = re.findall(r"\.\[([\w,]+)\]", " ".join(words))
    for extra in (extra for extras in listed for extra in extras.split(",")):
        assert re.search(rf"^{extra} = ", (REPO / "pyproject.toml").read_text(), re.MULTILINE)


def script_of(words):
    if words[:2] == ["accelerate", "launch"]:
        parsed = launch_command_parser().parse_args(words[2:])
        return parsed.training_script, parsed.training_script_args
    if words[0] == "torchrun":
        parsed = get_args_parser().parse_args(words[1:])
        return parsed.training_script, parsed.training_script_args
    assert words[0] == "python", words
    return words[1], words[2:]


def run_script(script, words):
    if "--seeds" in words:  # one is enough
        words = [word for word in words if word not in ("1", "2")]
    AcceleratorState._reset_state(True)
    before = sys.argv
    sys.argv = [script, *words]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{script} {' '.join(words)}: {end.code}"
    finally:
        sys.argv = before


def run_python(block):
    text = block.text
    for old, new in (word.split("=", 1) for word in block.mark or []):
        assert old in text
        text = text.replace(old, new)
    names = {}
    exec(compile(text, block.page, "exec"), names)
    return names


def run_page(page, place, monkeypatch):
    """The page's blocks in order; the names that each block of Python leaves behind."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    left = []
    for block in (block for block in BLOCKS if block.page == page):
        if block.language in SHELLS:
            for words in commands(block.text):
                run_command(words, block.mark or [])
        elif block.language == "python":
            left.append(run_python(block))
    torch.set_num_threads(1)
    return left


def test_every_block_that_starts_something_is_marked():
    for block in SHELL_BLOCKS:
        started = [words for words in commands(block.text) if words[0] not in SETTING_UP]
        assert not started or block.mark is not None, (
            f"{block.page} has a block without a mark:\n{block.text}"
        )


@pytest.mark.slow
def test_readme_runs_and_every_project_gets_the_same_features(place, monkeypatch):
    """README.md, then docs/use.md, which exports the README's run."""
    left = [
        names for page in ("README.md", "use.md") for names in run_page(page, place, monkeypatch)
    ]
    encoder = open_encoder("runs/quickstart").eval()
    seen = 0
    for names in (names for names in left if "features" in names):
        features, images = torch.as_tensor(names["features"]), torch.as_tensor(names["images"])
        own = open_encoder("exports/torchvision").eval() if "torchvision" in names else encoder
        raw = (
            images
            if "session" in names or "open_encoder" in names
            else images * own.std[:, None, None] + own.mean[:, None, None]
        )
        with torch.no_grad():
            torch.testing.assert_close(features, own(raw).pooled, atol=1e-4, rtol=1e-3)
        seen += 1
    assert seen >= 5
    assert (place / "runs/quickstart/report.html").is_file()


@pytest.mark.slow
def test_docs_run(place, monkeypatch):
    """The tutorial first: what it trains, other pages look at."""
    pages = dict.fromkeys(
        block.page for block in BLOCKS if block.page not in ("README.md", "use.md")
    )
    for page in sorted(pages, key=lambda page: page != "tutorial.md"):
        run_page(page, place, monkeypatch)
    for made in (
        "runs/mine/report.html",
        "shown.png",
        "k12.png",
        "comparison.html",
        "runs/mine/pictures/index.json",
    ):
        assert (place / made).is_file(), made
