"""Sizes that keep the code readable: of functions, files and lines, counted in every file."""

import ast
import statistics
from itertools import chain
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FILES = sorted(
    chain.from_iterable((REPO / d).rglob("*.py") for d in ("ssl_parts", "evaluation", "launch"))
)
FILE, FUNCTION, MEDIAN, WIDTH = 400, 50, 10, 100  # lines; lines; lines; characters


@pytest.fixture(scope="module")
def texts():
    return {str(path.relative_to(REPO)): path.read_text(encoding="utf-8") for path in FILES}


@pytest.fixture(scope="module")
def functions(texts):
    """Lines of each function, decorators left out, by file and name."""
    return {
        f"{file}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for file, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_file_is_read(texts):
    assert {file.split("/")[0] for file in texts} == {"ssl_parts", "evaluation", "launch"}
    assert len(texts) > 200


def test_files_are_short(texts):
    long = {file: text.count("\n") for file, text in texts.items() if text.count("\n") >= FILE}
    assert not long


def test_functions_are_short(functions):
    long = {name: lines for name, lines in functions.items() if lines > FUNCTION}
    assert not long
    assert statistics.median(functions.values()) <= MEDIAN


def test_lines_are_short(texts):
    widths = sorted(len(line) for text in texts.values() for line in text.splitlines() if line)
    assert widths[int(0.95 * len(widths))] < WIDTH
