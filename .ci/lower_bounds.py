"""The lowest versions that pyproject.toml allows, as constraints for pip.

    python .ci/lower_bounds.py > lowest.txt
    pip install -e ".[test]" -c lowest.txt

Each requirement with a lower bound (`torch>=2.11`) gives one line (`torch==2.11`); packages that
these pull in are left to pip. A requirement without one has no lowest version and is an error.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,.-]*\])?\s*(?P<bounds>[^;]*)")


def lower_bounds(project: dict, extras: tuple[str, ...] = ("test", "onnx")) -> list[str]:
    """Lines `name==version`, sorted, for the project's requirements and those of some extras.

    Raises:
        ValueError: a requirement without `>=`.
    """
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    lines = {bound(text) for text in wanted if not text.startswith(f"{project['name']}[")}
    return sorted(lines, key=str.lower)


def bound(requirement: str) -> str:
    """`torch>=2.11` as `torch==2.11`; a marker behind it stays."""
    text, semicolon, marker = requirement.partition(";")
    found = REQUIREMENT.fullmatch(text.strip())
    lowest = re.search(r">=\s*([\w.]+)", found["bounds"]) if found else None
    if found is None or lowest is None:
        raise ValueError(f"pyproject.toml: {requirement!r} has no lower bound; write NAME>=VERSION")
    return f"{found['name']}=={lowest[1]}" + (f"; {marker.strip()}" if semicolon else "")


if __name__ == "__main__":
    with open(PYPROJECT, "rb") as file:
        sys.stdout.write("\n".join(lower_bounds(tomllib.load(file)["project"])) + "\n")
