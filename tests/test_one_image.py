"""One image on its way through a training step: which of our files have a function that runs, and
what docs/architecture.md says about it.
"""

import re
import runpy
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest
import tiny_run
from accelerate.state import AcceleratorState

REPO = Path(__file__).resolve().parents[1]
OWN = (REPO / "ssl_parts", REPO / "evaluation", REPO / "launch")
LIMIT = 20
FIRST, LAST = ("data/loader.py", "__next__"), ("objectives/objective.py", "forward")


class StepFiles:
    """A profiler that notes our files between the read of a batch and its loss, and what threads
    read ahead.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.recording = self.done = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if self.done or not path.startswith(tuple(map(str, OWN))):
            return
        main = threading.current_thread() is threading.main_thread()
        if main and event == "call" and path.endswith(FIRST[0]) and name == FIRST[1]:
            self.recording = True
        if event == "call" and (self.recording or path.endswith("data/bank.py")):
            self.files.add(str(Path(path).relative_to(REPO)))
        if main and event == "return" and path.endswith(LAST[0]) and name == LAST[1]:
            self.recording, self.done = False, True


def test_a_training_step_crosses_at_most_twenty_files(tmp_path, monkeypatch):
    short = ("train.rounds=1", "train.base_epochs=0", "run.evaluate=false", "run.control=false")
    words = tiny_run.overrides(tmp_path, *short)
    AcceleratorState._reset_state(True)  # of an earlier test in this process
    monkeypatch.setattr(sys, "argv", ["launch/pretrain.py", *words])
    profiler = StepFiles()
    threading.setprofile(profiler)
    sys.setprofile(profiler)
    try:
        runpy.run_path(str(REPO / "launch" / "pretrain.py"), run_name="__main__")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert profiler.done, "no loss was computed"
    assert {"ssl_parts/views/pair.py", "ssl_parts/objectives/pooling.py"} <= profiler.files
    assert len(profiler.files) <= LIMIT, sorted(profiler.files)


@pytest.fixture(scope="module")
def page() -> str:
    return (REPO / "docs" / "architecture.md").read_text()


def test_the_twelve_stops_name_at_most_twenty_files(page):
    stops = page[page.index("## One image") : page.index("After the last step")]
    rows = re.findall(r"^\| (\d+) \|", stops, re.MULTILINE)
    files = set(re.findall(r"`((?:ssl_parts|launch|evaluation)/[\w/]+\.py)`", stops))
    assert [int(row) for row in rows] == list(range(1, 13))
    assert all((REPO / file).is_file() for file in files)
    assert len(files) <= LIMIT


def test_every_package_is_on_the_page(page):
    floors = page[page.index("| package |") : page.index("## One image")]
    packages = [path.parent for path in (REPO / "ssl_parts").glob("*/__init__.py")]
    missing = [
        path.name for path in packages if not re.search(rf"`(?:ssl_parts/)?{path.name}`", floors)
    ]
    assert missing == []
