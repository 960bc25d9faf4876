"""How large files and functions may grow, and how long lines are."""

import ast
from pathlib import Path
from statistics import median

import pytest

REPO = Path(__file__).resolve().parents[1]
FILES = sorted(
    f for name in ("ssl_parts", "evaluation", "launch") for f in (REPO / name).rglob("*.py")
)
LINES, FUNCTION, MEDIAN, WIDTH = 400, 50, 10, 100


def functions(path):
    """Name and length in lines of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_no_file_and_no_function_is_too_long(path):
    assert len(path.read_text().splitlines()) < LINES
    assert [name for name, length in functions(path) if length > FUNCTION] == []


def test_most_functions_are_short_and_most_lines_narrow():
    lengths = [length for path in FILES for _, length in functions(path)]
    assert median(lengths) <= MEDIAN
    widths = sorted(len(line) for path in FILES for line in path.read_text().splitlines())
    assert widths[int(0.95 * len(widths))] < WIDTH


def test_the_type_checker_leaves_no_file_out():
    assert (
        "ignore"
        not in (REPO / "pyproject.toml")
        .read_text()
        .partition("[tool.pyright]")[2]
        .partition("[tool.")[0]
    )
