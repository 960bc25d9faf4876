"""The model card: where an encoder comes from, what it was measured at, and how to open it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssl_parts.encoders import Encoder, encoder_hash

UNKNOWN = "not recorded"


def facts_of_run(run: Path | None) -> dict[str, Any]:
    """What a run directory says about its encoder; {} without one. Missing files are left out, not
    guessed.
    """
    if run is None:
        return {}
    facts: dict[str, Any] = {
        "run": run.name,
        "rounds": len(list(run.glob("round_*/encoder.safetensors"))),
    }
    facts |= _configured(run / "config.yaml")
    environment, results = _read_json(run / "environment.json"), _read_json(run / "results.json")
    facts["commit"] = results.get("commit") or environment.get("commit")
    facts["results"] = results.get("rows")
    return {key: value for key, value in facts.items() if value}


def size_of_run(run: Path | None) -> int | None:
    """The side of the images that a run looked at (`data.size`); None without a run that says so."""
    if run is None or not (run / "config.yaml").is_file():
        return None
    return OmegaConf.select(OmegaConf.load(run / "config.yaml"), "data.size")


def _configured(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = path.read_text()
    content = OmegaConf.to_container(OmegaConf.create(text))
    data, encoder = content.get("data") or {}, content.get("encoder") or {}
    weights = encoder.get("weights")
    told = {
        "config": text,
        "data": data.get("name"),
        "recipe": f"{path.parent.name}: see the configuration below",
    }
    return told | {
        "parent_weights": Path(weights).name if weights else "none: trained from scratch"
    }


def model_card(encoder: Encoder, facts: Mapping[str, Any], opening: str) -> str:
    """README.md with the front matter that the Hugging Face hub reads.

    Args:
        facts: any of data, recipe, rounds, run, results (rows of numbers), parent_weights,
            licence, commit, config.
        opening: the lines of Python that open this export.
    """
    rows = "\n".join(f"| {name} | {facts.get(key, UNKNOWN)} |" for name, key in _ROWS)
    stages = ", ".join(
        f"{stage} ({encoder.dims[stage]} x 1/{encoder.strides[stage]})" for stage in encoder.stages
    )
    return "\n".join(
        [
            _front_matter(facts),
            f"# {facts.get('run', encoder.name)}",
            "",
            f"An encoder ({encoder.name}) trained with ssl-parts: self-supervised, part-aware pretraining.",
            "",
            "## Open it",
            "",
            f"```python\n{opening.strip()}\n```",
            "",
            f"Input: RGB in [0, 1], mean {_numbers(encoder.mean)}, std {_numbers(encoder.std)}.  ",
            f"Maps: {stages}.  ",
            f"Pooled: {encoder.feature_dim} numbers an image. Hash of the weights: {encoder_hash(encoder)}.",
            "",
            "## Where it comes from",
            "",
            f"| what | value |\n|---|---|\n{rows}",
            "",
            "## Measured",
            "",
            _results(facts.get("results")),
            "",
            *_config(facts.get("config")),
        ]
    )


_ROWS = (
    ("data", "data"),
    ("recipe", "recipe"),
    ("rounds of discovery and training", "rounds"),
    ("parent weights", "parent_weights"),
    ("licence of the parent weights", "licence"),
    ("commit", "commit"),
)


def _front_matter(facts: Mapping[str, Any]) -> str:
    licence = facts.get("licence", "other")
    tags = "\n".join(
        f"- {tag}"
        for tag in ("image-feature-extraction", "timm", "self-supervised", "fine-grained")
    )
    return f"---\nlibrary_name: timm\nlicense: {licence}\npipeline_tag: image-feature-extraction\ntags:\n{tags}\n---\n"


def _results(rows: object) -> str:
    if isinstance(rows, list):
        rows = _means(rows)
    if not isinstance(rows, Mapping) or not rows:
        return "Nothing was measured on these weights."
    return f"```json\n{json.dumps(rows, indent=1)}\n```"


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Arm → "PROTOCOL.MEASURE" → mean, of the rows of results.json."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        means = {f"{row['protocol']}.{k}": v["mean"] for k, v in row["values"].items()}
        found.setdefault(row["name"], {}).update(means)
    return found


def _config(config: object) -> list[str]:
    return ["## Configuration", "", f"```yaml\n{str(config).strip()}\n```", ""] if config else []


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
