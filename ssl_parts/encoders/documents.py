"""Small files of settings as plain data, whoever wrote them: JSON and YAML.

No tags, no aliases (a few lines of which unfold into gigabytes), no interpolation, a bounded size.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from ssl_parts.errors import WeightsError

LARGEST = 16 * 2**20  # bytes; an index of a thousand shards has a hundredth of it


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError(f"alias *{self.peek_event().anchor}, which is not followed")
        return super().compose_node(parent, index)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        WeightsError: missing, too large, damaged, or no object.
    """
    return _object_in(path, json.loads, "JSON")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; WeightsError as `read_json`."""
    return _object_in(path, lambda text: yaml.load(text, _PlainLoader), "YAML")  # noqa: S506


def has_interpolation(value: Any) -> bool:
    """Whether some text in plain data asks OmegaConf for something: an environment variable,
    another key.
    """
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, str) and "${" in item:
            return True
    return False


def _object_in(path: Path, parse: Any, kind: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MB")
        content = parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} cannot be read as {kind}: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, not a mapping of settings")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
