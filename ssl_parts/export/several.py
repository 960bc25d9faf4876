"""Several formats of one encoder, each in a folder of its own, and what was written in results.json."""

import json
from pathlib import Path

from ssl_parts.encoders import Encoder, build_encoder, locate
from ssl_parts.encoders.documents import read_json
from ssl_parts.errors import ConfigError
from ssl_parts.export.config import ExportConfig
from ssl_parts.export.export import export_encoder
from ssl_parts.export.hub import push_export
from ssl_parts.files import write_atomic


def run_export(config: ExportConfig) -> Path:
    """Write every format and push where asked; the path of results.json.

    Raises:
        ConfigError, WeightsError: see `export_encoder` and `push_export`. Formats written before
            the error stay.
    """
    check_results(config.base)
    if config.name is None:
        locate(config.source_path, config.which)
    source: Encoder | Path = config.source_path
    if config.name is not None:
        source = build_encoder(config.name, config.source_path)
        print(f"Weights: {source.report.summary() if source.report else 'none'}")
    base = config.base
    several = len(config.formats) > 1 or config.out is None
    written: dict[str, str] = {}
    for to in config.formats:
        out = base / to if several else base
        facts = {"licence": config.licence} if config.licence else {}
        options = {
            "image_size": config.image_size,
            "which": config.which,
            "parts": config.parts,
            "facts": facts,
        }
        written[to] = str(export_encoder(source, out, to, **options))
        print(f"{to}: {out}, features compared with the encoder's", flush=True)
    results: dict[str, object] = {
        "source": config.source,
        "which": config.which,
        "exports": written,
    }
    if config.push is not None:
        results["pushed"] = push_export(
            written.get("hf") or written["timm"], config.push, config.private
        )
        print(f"pushed: {results['pushed']}")
    path = base / "results.json"
    write_atomic(path, json.dumps(results, indent=1) + "\n")
    return path


def check_results(folder: Path) -> None:
    """Raise ConfigError where results.json of a folder belongs to something else, such as a run."""
    path = folder / "results.json"
    if path.is_file() and "exports" not in read_json(path):
        raise ConfigError(
            f"{path} is not of an export and would be overwritten; choose another out=DIR"
        )
