"""Imports point one way: three floors, no circle between packages or files, nothing hidden.

An import is read from the source: at the top, inside functions, below TYPE_CHECKING, in the stubs
of packages that load lazily, and as a "package.module:name" in a table.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# from the lowest floor up; a room may import from rooms above it in this list only
ROOMS = (
    "ssl_parts.errors",
    "ssl_parts.configuration",
    "ssl_parts.files",
    "ssl_parts.seeds",
    "ssl_parts.data",
    "ssl_parts.encoders",
    "ssl_parts.views",
    "ssl_parts.parts",
    "ssl_parts.objectives",
    "ssl_parts.engine",
    "ssl_parts.export",
    "ssl_parts.pretraining",
    "evaluation",
    "ssl_parts.recipes",
    "ssl_parts.config",
    "ssl_parts.report",
    "ssl_parts.jobs",
    "ssl_parts.comparison",
    "ssl_parts.doctor",
    "ssl_parts.commands",
    "ssl_parts.api",
    "launch",
)
ADDRESS = re.compile(r"^((?:ssl_parts|evaluation)(?:\.\w+)+):\w+$")
OURS = ("ssl_parts", "evaluation", "launch")


def sources() -> list[Path]:
    found = [path for name in OURS for path in (REPO / name).rglob("*.py*")]
    return sorted(path for path in found if path.suffix in (".py", ".pyi"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(REPO).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path) for path in sources()}


def imported(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Modules of ours that a file names, with the node that does."""
    package = module_of(path) if path.stem == "__init__" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES else base), node
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = ADDRESS.match(node.value)
            if match:
                yield match.group(1), node


def ours(path: Path) -> set[str]:
    return {name for name, _ in imported(path) if name.split(".")[0] in OURS}


def room_of(module: str) -> str | None:
    """The longest row of ROOMS that holds the module; None for the package ssl_parts itself."""
    fitting = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def test_every_file_stands_in_a_room():
    without = [
        name
        for name in MODULES
        if room_of(name) is None and name not in ("ssl_parts", "ssl_parts.__main__")
    ]
    assert not without


def test_no_room_imports_from_above():
    wrong = []
    for path in sources():
        room = room_of(module_of(path))
        if room is None:
            continue
        for name in ours(path):
            other = room_of(name)
            if other is not None and ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{path.relative_to(REPO)} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in arrows:
        if node not in order:
            visit(node)
    return found


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def defining(name: str, stubs: dict[str, dict[str, str]], attribute: str) -> str:
    """The file that a name of a lazy package comes from."""
    return stubs.get(name, {}).get(attribute, name)


def file_arrows() -> dict[str, set[str]]:
    """File to file. A name taken from a lazy package counts as taken from the file it is in."""
    stubs: dict[str, dict[str, str]] = {}
    for path in sources():
        if path.suffix == ".pyi":
            homes = stubs.setdefault(module_of(path), {})
            for name, node in imported(path):
                for alias in getattr(node, "names", []):
                    homes[alias.asname or alias.name] = name
    arrows: dict[str, set[str]] = {}
    for path in sources():
        if path.suffix == ".pyi":
            continue
        own = module_of(path)
        reached = arrows.setdefault(own, set())
        for name, node in imported(path):
            if isinstance(node, ast.ImportFrom) and name in stubs:
                reached |= {defining(name, stubs, alias.name) for alias in node.names}
            elif name.split(".")[0] in OURS:
                reached.add(name)
        reached.discard(own)
    return arrows


def test_no_circle_between_files():
    found = circles(file_arrows())
    assert not found, found


def test_no_circle_between_folders():
    folders: dict[str, set[str]] = {}
    packages = {module_of(path) for path in sources() if path.stem == "__init__"}

    def folder(module: str) -> str:
        return module if module in packages else module.rpartition(".")[0]

    for module, reached in file_arrows().items():
        if module in packages and not reached:
            continue
        others = {folder(name) for name in reached} - {folder(module), "ssl_parts"}
        folders.setdefault(folder(module), set()).update(others)
    found = circles(folders)
    assert not found, found


def hidden(path: Path) -> list[str]:
    """Imports of our own code below the top of a file."""
    top = {node.lineno for node in ast.parse(path.read_text()).body}
    found = []
    for name, node in imported(path):
        late = isinstance(node, ast.Import | ast.ImportFrom) and node.lineno not in top
        if late and name.split(".")[0] in OURS:
            found.append(f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)} {name}")
    return found


@pytest.mark.parametrize("name", OURS)
def test_no_import_is_hidden(name):
    wrong = [
        line for path in sources() if path.parts[len(REPO.parts)] == name for line in hidden(path)
    ]
    assert not wrong, "\n".join(wrong)
