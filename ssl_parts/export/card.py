"""The model card: what an encoder is, how to load it, how it was trained, what it scored, what it
is not for.

It is a page for people. Nothing of the machine it was made on gets into it: no path, no
environment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_parts.encoders import Encoder, encoder_hash
from ssl_parts.encoders.documents import read_json, read_yaml
from ssl_parts.encoders.sources import LARGEST_SIDE
from ssl_parts.errors import WeightsError

# Licences by the names that the Hugging Face hub has for them; any other text goes in as a name of
# its own.
HUB_LICENCES = {
    *(
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
    ),
    *(
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nd-4.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-2.1",
        "lgpl-3.0",
        "agpl-3.0",
    ),
    *("mpl-2.0", "openrail", "isc", "unlicense", "wtfpl", "other", "unknown"),
}
COLUMNS = {
    "linear": "linear, all labels",
    "linear_few": "linear, few labels",
    "part_miou": "part mIoU",
}


def facts_of_run(run: Path | None) -> dict[str, Any]:
    """What a run directory says about its encoder; {} without one. Missing files are left out, not
    guessed.

    Returns:
        any of run, data, rounds, size, method, epochs, batch, lr, seed, parent_weights, commit,
        results.
    """
    if run is None:
        return {}
    config, results = _settings(run), _read_or_empty(run / "results.json")
    facts: dict[str, Any] = {
        "run": run.name,
        "rounds": len(list(run.glob("round_*/encoder.safetensors"))),
    }
    for name, (section, key) in _CONFIGURED.items():
        facts[name] = _section(config, section).get(key)
    weights = _section(config, "encoder").get("weights")
    facts["parent_weights"] = Path(str(weights)).name if weights else "none: trained from scratch"
    facts["commit"] = results.get("commit") or _read_or_empty(run / "environment.json").get(
        "commit"
    )
    facts["results"] = results.get("rows")
    return {key: value for key, value in facts.items() if value is not None and value != {}}


_CONFIGURED = {
    "data": ("data", "name"),
    "size": ("data", "size"),
    "method": ("objective", "method"),
    "epochs": ("train", "epochs"),
    "batch": ("train", "batch"),
    "lr": ("train", "lr"),
    "seed": ("run", "seed"),
}


def size_of_run(run: Path | None) -> int | None:
    """The side of the images that a run looked at (`data.size`); None without a run that says so."""
    size = None if run is None else _section(_settings(run), "data").get("size")
    return size if type(size) is int and 0 < size <= LARGEST_SIDE else None


def model_card(encoder: Encoder, facts: Mapping[str, Any], opening: str) -> str:
    """README.md with the front matter that the Hugging Face hub reads.

    Args:
        facts: any of what `facts_of_run` returns, and licence (of the parent weights).
        opening: the lines of Python that open this export.
    """
    name = _line(facts.get("run", encoder.name))
    stages = ", ".join(
        f"{stage} ({encoder.dims[stage]} x 1/{encoder.strides[stage]})" for stage in encoder.stages
    )
    millions = sum(parameter.numel() for parameter in encoder.model.parameters()) / 1e6
    return "\n".join(
        [
            _front_matter(facts),
            f"# {name}",
            "",
            f"An image encoder ({encoder.name}, {millions:.1f} million parameters) {_origin(facts)} It gives one vector per "
            "image and dense maps.",
            "",
            "## How to load it",
            "",
            f"```python\n{opening.strip()}\n```",
            "",
            "- DIR is this folder. From the Hugging Face hub: `hf-hub:USER/NAME` in place of `local-dir:DIR`.",
            f"- Input: RGB in [0, 1], less mean {_numbers(encoder.mean)}, divided by {_numbers(encoder.std)}.",
            f"- Output: {encoder.feature_dim} numbers per image; maps {stages}.",
            "",
            "## How it was trained",
            "",
            _training(facts),
            "",
            f"Hash of the weights: `{encoder_hash(encoder)}`.",
            "",
            "## Results",
            "",
            _results(facts.get("results")),
            "",
            "## Licence",
            "",
            _licence(facts),
            "",
            "## Limits",
            "",
            *_limits(facts),
            "",
        ]
    )


_ROWS = (
    ("images", "data"),
    ("image size in pixels", "size"),
    ("started from", "parent_weights"),
    ("objective", "method"),
    ("rounds of discovery and training", "rounds"),
    ("epochs per round", "epochs"),
    ("pairs per step", "batch"),
    ("learning rate", "lr"),
    ("seed", "seed"),
    ("commit of the code", "commit"),
)


def _origin(facts: Mapping[str, Any]) -> str:
    """The end of "An image encoder ...", as far as a run is known."""
    if "run" not in facts:
        return "exported with ssl-parts, which did not record its training."
    data = f" on {_line(facts['data'])}" if facts.get("data") else ""
    method = facts.get("method", "particle")
    if method != "particle":
        return f"trained{data} with ssl-parts, without labels (objective {_line(method)})."
    return (
        f"trained{data} with ssl-parts, without labels: pixels of its own feature maps are clustered into parts, and the "
        "network learns to tell a part from other parts and other images (PARTICLE, arXiv 2309.13822)."
    )


def _training(facts: Mapping[str, Any]) -> str:
    rows = [(label, _line(facts[key])) for label, key in _ROWS if facts.get(key) is not None]
    return _table(("what", "value"), rows) if rows else "Nothing was recorded."


def _front_matter(facts: Mapping[str, Any]) -> str:
    licence = str(facts.get("licence") or "other").strip()
    known = licence.lower() in HUB_LICENCES
    about: dict[str, Any] = {
        "library_name": "timm",
        "license": licence.lower() if known else "other",
    }
    about |= {} if known else {"license_name": " ".join(licence.split())}
    about |= {"pipeline_tag": "image-feature-extraction"}
    about |= {"tags": ["image-feature-extraction", "timm", "self-supervised", "fine-grained"]}
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def _results(rows: object) -> str:
    """A table of the arms of a run, in percent."""
    rows = _by_arm(rows) if isinstance(rows, list) else rows
    if not isinstance(rows, Mapping):
        return "Nothing was measured on these weights."
    shares = {str(arm): _shares(row) for arm, row in rows.items()}
    names = list(dict.fromkeys(name for values in shares.values() for name in values))
    if not names:
        return "Nothing was measured on these weights."
    body = [
        (_line(arm), *(values.get(name, "") for name in names)) for arm, values in shares.items()
    ]
    table = _table(("encoder", *(COLUMNS.get(name, _line(name)) for name in names)), body)
    note = next(
        (row["note"] for row in rows.values() if isinstance(row, Mapping) and row.get("note")), None
    )
    return table + "\n\nIn percent, on test images, one run." + (f" {_line(note)}" if note else "")


def _by_arm(rows: list[Any]) -> dict[str, dict[str, Any]]:
    """Arm → "PROTOCOL MEASURE" → {"mean", "sd"}, of the rows of results.json."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if isinstance(row, Mapping) and isinstance(row.get("values"), Mapping):
            named = {f"{row.get('protocol')} {key}": v for key, v in row["values"].items()}
            found.setdefault(str(row.get("name")), {}).update(named)
    return found


def _shares(row: object) -> dict[str, str]:
    """The figures of one arm, from {"values": {name: {"mean": ...}}} or {name: figure}."""
    if not isinstance(row, Mapping):
        return {}
    values = row.get("values", row)
    found: dict[str, str] = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        mean = value.get("mean") if isinstance(value, Mapping) else value
        if isinstance(mean, int | float) and not isinstance(mean, bool):
            sd = value.get("sd") if isinstance(value, Mapping) else None
            found[str(name)] = f"{100 * mean:.1f}" + (
                f" ± {100 * sd:.1f}" if isinstance(sd, float) and sd > 0 else ""
            )
    return found


def _licence(facts: Mapping[str, Any]) -> str:
    said = _line(facts["licence"]) if facts.get("licence") else None
    parent = _line(facts.get("parent_weights", ""))
    if said is not None:
        return f"{said}. Terms of the training images may add to it."
    if parent and not parent.startswith("none"):
        return f"Not recorded. The terms of the weights that it started from ({parent}) and of the images apply."
    return "Not recorded. The terms of the training images apply."


def _limits(facts: Mapping[str, Any]) -> list[str]:
    data = _line(facts["data"]) if facts.get("data") else "its training set"
    sized = f" at {_line(facts['size'])} px" if facts.get("size") else ""
    measured = bool(facts.get("results"))
    return [
        f"- It has seen the images of {data}{sized}; on other subjects, sizes and cameras it is untested.",
        "- Parts are clusters of features: they need not be parts that people name, and left and right may be one.",
        "- The figures above are of one run and one seed; a difference of a point may be chance."
        if measured
        else "- Nothing was measured: compare it with the weights that it started from before relying on it.",
        "- Neither fairness nor robustness was examined. It is no basis for decisions about people.",
    ]


# ---------------------------------------------------------------- text that is safe in Markdown


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _line(value: object) -> str:
    """A value as one line without markup; of an absolute path only its last part."""
    text = " ".join(str(value).split())
    text = re.sub(
        r"(?<![\w/.:])(?:/|~/|[A-Za-z]:\\)[^\s\"'<>|]+", lambda match: _last_part(match[0]), text
    )
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"


# ---------------------------------------------------------------- what a run has written


def _settings(run: Path) -> dict[str, Any]:
    return read_yaml(run / "config.yaml") if (run / "config.yaml").is_file() else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _read_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except WeightsError:
        return {}
