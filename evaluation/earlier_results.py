"""What results.json looked like in earlier versions, as a document of the present one.

Version 1 had three shapes: arms by name (pretrain, compare), a list of rows (evaluate, finetune,
heads) and statistics beside scores (discover). Everything here is plain JSON.
"""

from collections.abc import Mapping
from typing import Any

# measure at the end of a run → its protocol and measure now; {} is the number of labelled images
SUITE = {
    "linear": ("linear", "accuracy", ""),
    "linear_few": ("few_label", "accuracy@{}", "shots"),
    "part_miou": ("parts", "miou@{}", "part_shots"),
    "part_miou_with_background": ("parts", "miou_with_background@{}", "part_shots"),
}
UNKNOWN = {
    "version": 0,
    "data": "",
    "splits": {},
    "resolution": 0,
    "fit": "",
    "layer": "",
    "pooling": "",
    "selection": "",
    "seeds": [],
}


def as_version_2(document: Any) -> Any:
    """The same content in the shape of version 2; what is no earlier shape is returned as it is."""
    if not isinstance(document, Mapping) or "version" in document:
        return document
    if "statistics" in document and "scores" in document:
        return _of_discovery(document)
    if "values" in document:  # an arm's own file in runs/NAME/evaluation
        arm = str(document.get("arm", ""))
        return _document("pretrain", rows_of_arm(arm, document), {"arm": arm} if arm else {})
    if document.get("schema") != 1:
        return document
    rows = document.get("rows", [])
    extra = {k: v for k, v in document.items() if k not in ("schema", "rows", "command")}
    if "command" in document:
        extra["command_line"] = document["command"]
    if isinstance(rows, Mapping):
        command = "compare" if "seeds" in document else "pretrain"
        return _document(
            command, [r for a, arm in rows.items() for r in rows_of_arm(a, arm)], extra
        )
    return _document(_command_of(rows, extra), [_with_units(row) for row in rows], extra)


def rows_of_arm(name: str, arm: Any) -> list[dict[str, Any]]:
    """Rows of one arm of a run's table, one per protocol; [] for what is no arm."""
    if not isinstance(arm, Mapping) or not isinstance(arm.get("values"), Mapping):
        return []
    settings = arm.get("settings") or {}
    by_protocol: dict[str, dict[str, Any]] = {}
    for key, measure in arm["values"].items():
        protocol, measured, shots = SUITE.get(key, ("unknown", key, ""))
        by_protocol.setdefault(protocol, {})[measured.format(settings.get(shots, "few"))] = measure
    described = settings | ({"note": arm["note"]} if arm.get("note") else {})
    return [
        UNKNOWN
        | {
            "name": name,
            "protocol": protocol,
            "values": values,
            "settings": described,
            "encoder": arm.get("encoder") or {},
        }
        for protocol, values in by_protocol.items()
    ]


def _of_discovery(document: Mapping[str, Any]) -> dict[str, Any]:
    scores = {key: _measure(value) for key, value in document["scores"].items()}
    config = document.get("config") or {}
    row = UNKNOWN | {
        "name": str(config.get("run.name", "parts")),
        "protocol": "discovery",
        "data": str(config.get("data.name", "")),
        "values": scores,
    }
    extra = {k: v for k, v in document.items() if k not in ("scores", "command")}
    if "command" in document:
        extra["command_line"] = document["command"]
    return _document("discover", [_with_units(row)], extra)


def _measure(value: float | None) -> dict[str, Any]:
    return {"mean": value, "sd": None, "values": [value]}


def _with_units(row: Any) -> Any:
    """keypoint_error is in percent of the box; version 1 did not say so."""
    if not isinstance(row, Mapping) or "keypoint_error" not in row.get("values", {}):
        return row
    measure = {**row["values"]["keypoint_error"], "unit": "percent"}
    return {**row, "values": {**row["values"], "keypoint_error": measure}}


def _command_of(rows: Any, extra: Mapping[str, Any]) -> str:
    protocols = {row.get("protocol") for row in rows if isinstance(row, Mapping)}
    if protocols != {"finetune"}:
        return "evaluate"
    return "finetune" if "columns" in extra else "heads"


def _document(command: str, rows: list[Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": 2, "command": command, "rows": rows, "extra": dict(extra)}
