"""What launch/export.py does: key=value in, folders and results.json out."""

import json
from pathlib import Path

from ssl_parts.encoders import Encoder, build_encoder, locate
from ssl_parts.export.export import export_encoder
from ssl_parts.export.hub import push_export
from ssl_parts.files import write_atomic
from ssl_parts.recipes.schemas import ExportConfig


def run_export(config: ExportConfig) -> Path:
    """Write every format and push where asked; the path of results.json.

    Raises:
        ConfigError, WeightsError: see `export_encoder` and `push_export`. Formats written before
            the error stay.
    """
    if config.name is None:
        locate(Path(config.source), config.which)
    source: Encoder | str = config.source
    if config.name is not None:
        source = build_encoder(config.name, config.source)
        print(f"Weights: {source.report.summary()}")
    base = Path(config.out) if config.out else Path(config.source) / "exports"
    several = len(config.formats) > 1 or config.out is None
    written = {}
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
    results = {"source": config.source, "which": config.which, "exports": written}
    if config.push is not None:
        results["pushed"] = push_export(
            written.get("hf", written.get("timm")), config.push, config.private
        )
        print(f"pushed: {results['pushed']}")
    path = base / "results.json"
    write_atomic(path, json.dumps(results, indent=1) + "\n")
    return path
