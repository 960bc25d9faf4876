"""What a document has against evaluation/results.schema.json: the few words of JSON Schema that it
uses.
"""

import json
from pathlib import Path
from typing import Any

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[1] / "evaluation/results.schema.json").read_text()
)
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "null": type(None),
}


def problems(value: Any, schema: Any = SCHEMA, place: str = "$") -> list[str]:
    """Places that do not fit, each with the reason."""
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], place)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) for kind in kinds):
        return [f"{place}: {value!r} is no {' or '.join(kinds)}"]
    if "const" in schema and value != schema["const"]:
        return [f"{place}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is not one of {schema['enum']}"]
    if "minimum" in schema and value < schema["minimum"]:
        return [f"{place}: {value!r} is below {schema['minimum']}"]
    if isinstance(value, list):
        items = schema.get("items", {})
        return [p for i, each in enumerate(value) for p in problems(each, items, f"{place}[{i}]")]
    return _of_object(value, schema, place) if isinstance(value, dict) else []


def _of_object(value: dict, schema: Any, place: str) -> list[str]:
    known, further = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{place}: {key} is missing" for key in schema.get("required", []) if key not in value]
    for key, each in value.items():
        if key in known:
            found += problems(each, known[key], f"{place}.{key}")
        elif further is False:
            found.append(f"{place}: {key} is unknown")
        elif isinstance(further, dict):
            found += problems(each, further, f"{place}.{key}")
    return found
