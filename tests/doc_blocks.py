"""Blocks of code in the documentation, and what their marks say about running them.

A mark is a comment on the line before a block: `<!-- smoke: DIR=images tiny k=3 -->`. Words in
capitals replace placeholders; `tiny` stands for TINY; the others are put into the block's
commands, where they win, and KEY=null takes one away. In a block of Python OLD=NEW replaces text.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[1]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- smoke:(.*?)-->\s*\n)?```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELLS = ("bash", "sh", "shell", "console")
# What every training of the documentation is shrunk to, whatever its recipe.
TINY = [
    "data.size=48", "views.size=48", "views.ids_size=8", "parts.size=8", "parts.k=3", "parts.iterations=20",
    "train.epochs=1", "train.batch=4", "objective.hidden=16", "objective.projection=8",
    "encoder=resnet18_small", "encoder.width=0.125", "run.threads=1", "run.precision=fp32", "run.trackers=[]",
]  # fmt: skip


class Block(NamedTuple):
    page: str
    language: str
    text: str
    mark: list[str] | None  # None: has none


def blocks_of(page: Path) -> list[Block]:
    found = [match for match in BLOCK.finditer(page.read_text())]
    return [
        Block(
            page.name,
            m[2],
            m[3],
            None if m[1] is None else [w for word in m[1].split() for w in expanded(word)],
        )
        for m in found
    ]


def expanded(word: str) -> list[str]:
    return TINY if word == "tiny" else [word]


def commands(text: str) -> list[list[str]]:
    """Every simple command of a block, as words."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|;", line)]
    return [words for words in (shlex.split(part, comments=True) for part in parts) if words]


def shrunk(words: list[str], mark: list[str]) -> list[str]:
    """A command with placeholders replaced and the mark's settings in place of its own."""
    swaps = dict(word.split("=", 1) for word in mark if word.split("=")[0].isupper())
    added = [word for word in mark if not word.split("=")[0].isupper()]
    keys = {word.split("=")[0] for word in added}
    kept = [
        swapped(word, swaps) for word in words if "=" not in word or word.split("=")[0] not in keys
    ]
    return [*kept, *(word for word in added if not word.endswith("=null"))]


def swapped(word: str, swaps: dict[str, str]) -> str:
    head, equals, value = word.rpartition("=")
    return f"{head}{equals}{swaps.get(value, value)}"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL_BLOCKS = [block for block in BLOCKS if block.language in SHELLS]
