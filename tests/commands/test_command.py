"""Commands answer before anything heavy is imported, and every mistake is one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_parts.commands.command import load, parse_words
from ssl_parts.commands.table import COMMANDS

REPO = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "timm", "sklearn", "matplotlib")
ASK = """
import sys
from ssl_parts.commands.main import main
try:
    main(sys.argv[1:])
finally:
    print("heavy:", [name for name in {heavy!r} if name in sys.modules])
"""


def ask(*words, **environment):
    """A fresh process with these words; what it printed and its exit code."""
    program = [sys.executable, "-c", ASK.format(heavy=HEAVY), *words]
    env = {**os.environ, "PYTHONPATH": str(REPO), **environment}
    return subprocess.run(program, capture_output=True, text=True, env=env, cwd=REPO)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "pretrain"),
        (["--version"], 0, "ssl-parts"),
        (["pretrain", "--help"], 0, "--config-name"),
        (["pretrain", "--show-config"], 0, "swap_background"),
        (["pretrain", "--show-config", "--config-name", "folder"], 0, "data.root"),
        (["pretrain", "data.rot=x"], 1, "did you mean 'data.root'"),
        (["pretrain", "folder"], 1, "--config-name folder"),
        (["pretrain", "--config-nam", "folder"], 2, "did you mean '--config-name'"),
        (["pretrian"], 1, "did you mean 'pretrain'"),
        (["export", "sorce=x"], 1, "did you mean 'source'"),
    ],
)
def test_answers_without_torch(words, code, said):
    done = ask(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "heavy: []" in done.stdout and "Traceback" not in done.stderr


EACH = """
import contextlib, io, json, sys
from ssl_parts.commands.main import main
answers = []
for words in json.loads(sys.argv[1]):
    said, end = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as ended:
            end = ended.code
    answers.append([end, said.getvalue(), [name for name in {heavy!r} if name in sys.modules]])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers():
    """What each command says to --help, to --show-config and to a key that it does not have: how
    it ended, what it printed, and what was imported by then. One process for all of them.
    """
    composing = [name for name, command in COMMANDS.items() if command.compose is not None]
    lines = [[name, "--help"] for name in COMMANDS]
    lines += [[name, "--show-config"] for name in composing]
    lines += [[name, "surely.no_key=1"] for name in composing]
    program = [sys.executable, "-c", EACH.format(heavy=HEAVY), json.dumps(lines)]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(program, capture_output=True, text=True, env=env, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return {tuple(words): said for words, said in zip(lines, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_without_torch(answers, name):
    end, printed, heavy = answers[name, "--help"]
    assert end in (0, None) and f"ssl-parts {name}" in printed and heavy == []
    if COMMANDS[name].compose is None:
        return
    end, printed, heavy = answers[name, "--show-config"]
    assert end == 0 and ":" in printed and heavy == []
    end, printed, heavy = answers[name, "surely.no_key=1"]
    assert str(end).startswith("ConfigError") and "surely" in end and heavy == []


def test_a_terminal_without_unicode_and_a_closed_pipe():
    done = ask("compare", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    shell = f"{sys.executable} -m ssl_parts pretrain --show-config | head -1"
    done = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        text=True,
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )
    assert "Traceback" not in done.stderr and done.stdout.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_names_what_exists(name):
    command = COMMANDS[name]
    assert callable(load(command.act))
    assert command.compose is None or callable(load(command.compose))
    assert (REPO / "launch" / f"{name}.py").is_file()
    assert command.summary.endswith((".", "?")) and f"launch/{name}.py" in command.help


def test_keys_and_options_stand_in_any_order():
    for line in (
        "--seeds 0 1 data=cub run.name=a",
        "data=cub --seeds 0 1 run.name=a",
        "data=cub run.name=a --seeds 0 1",
    ):
        given = parse_words(COMMANDS["compare"], line.split())
        assert given.seeds == [0, 1] and given.words == ["data=cub", "run.name=a"]
