"""Imports point one way (DESIGN §2): what is below knows nothing of what is above."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
ABOVE = ("ssl_parts.training", "ssl_parts.configuration.compose", "launch", "evaluation")
FORBIDDEN = {
    "ssl_parts/data": (
        "ssl_parts.encoders",
        "ssl_parts.parts",
        "ssl_parts.views",
        "ssl_parts.objectives",
        *ABOVE,
    ),
    "ssl_parts/views": ("ssl_parts.encoders", "ssl_parts.parts", "ssl_parts.objectives", *ABOVE),
    "ssl_parts/encoders": (
        "ssl_parts.data",
        "ssl_parts.parts",
        "ssl_parts.views",
        "ssl_parts.objectives",
        *ABOVE,
    ),
    "ssl_parts/parts": ("ssl_parts.views", "ssl_parts.objectives", *ABOVE),
    "ssl_parts/objectives": ("ssl_parts.data", "ssl_parts.parts", *ABOVE),
    "ssl_parts/export": ("ssl_parts.data", "ssl_parts.views", "ssl_parts.objectives", *ABOVE),
    "evaluation": (
        "ssl_parts.training",
        "ssl_parts.configuration.compose",
        "ssl_parts.views",
        "ssl_parts.objectives",
        "launch",
    ),
}


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_from_above(room):
    files = list((REPO / room).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for path in files
        for name in imported(path)
        if any(name == above or name.startswith(above + ".") for above in FORBIDDEN[room])
    ]
    assert wrong == []
