"""What launch/export.py does: key=value in, folders and results.json out."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_parts.encoders import Encoder, build_encoder, locate
from ssl_parts.encoders.documents import read_json
from ssl_parts.errors import ConfigError
from ssl_parts.export.export import FORMATS, export_encoder
from ssl_parts.export.folder import write_whole
from ssl_parts.export.hub import push_export


@dataclass
class ExportConfig:
    """One export command."""

    # run directory, round, checkpoint, earlier export; with `name`, any weights the loader reads
    source: str = ""
    to: str = "timm"  # one or more formats, with commas between
    # the folder of one format, the parent of several; null: SOURCE/exports; ~ is the home folder
    out: str | None = None
    name: str | None = None  # timm's name of the network, where the source is bare weights
    which: str = "best"  # best | student | teacher, where the source is a run
    image_size: int | None = None  # input size to record; null: the run's, or the network's own
    parts: bool = True  # a run's part model goes along
    # for the card: that of the parent weights, as the hub spells it (apache-2.0)
    licence: str | None = None
    push: str | None = None  # USER/NAME on the Hugging Face hub: upload the hf (or timm) export
    private: bool = True  # the repository that push makes

    @property
    def formats(self) -> list[str]:
        return [word.strip() for word in self.to.split(",") if word.strip()]

    def check(self) -> None:
        """ConfigError for the first value that cannot work, before anything is written."""
        if not self.source:
            raise ConfigError("source=... is missing: a run directory, a checkpoint or an export")
        unknown = [to for to in self.formats if to not in FORMATS]
        if unknown or not self.formats:
            raise ConfigError(f"to={self.to}: choose from {', '.join(FORMATS)}")
        if self.out is None and not self.source_path.is_dir():
            raise ConfigError(
                f"out=DIR is missing; only a run directory has a place of its own, {self.source} is none"
            )
        if self.push is not None and not {"hf", "timm"} & set(self.formats):
            raise ConfigError(
                f"push={self.push} uploads the hf or the timm export, but to={self.to}"
            )
        if self.name is None:
            locate(self.source_path, self.which)
        self._check_results()

    @property
    def source_path(self) -> Path:
        return Path(self.source).expanduser()

    @property
    def base(self) -> Path:
        """The folder of one format, or the parent of several."""
        return self.source_path / "exports" if self.out is None else Path(self.out).expanduser()

    def _check_results(self) -> None:
        """ConfigError where results.json belongs to something else, such as a run."""
        path = self.base / "results.json"
        if path.is_file() and "exports" not in read_json(path):
            raise ConfigError(
                f"{path} is not of an export and would be overwritten; choose another out=DIR"
            )


def parse(words: Sequence[str]) -> ExportConfig:
    """key=value words as an ExportConfig; ConfigError names a key that does not exist and the
    nearest that does.
    """
    known = [field.name for field in fields(ExportConfig)]
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}=...?" if near else f"keys are {', '.join(known)}"
            raise ConfigError(f"cannot read {word!r}: {hint}")
    try:
        # Values stay text until the schema types them: to=timm,onnx is no list, name=1 no number.
        given = {
            key: None if value == "null" else value
            for key, _, value in (word.partition("=") for word in words)
        }
        merged = OmegaConf.merge(OmegaConf.structured(ExportConfig), given)
        config: ExportConfig = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).strip().splitlines()[0]) from error
    config.check()
    return config


def run_export(config: ExportConfig) -> Path:
    """Write every format and push where asked; the path of results.json.

    Raises:
        ConfigError, WeightsError: see `export_encoder` and `push_export`. Formats written before
            the error stay.
    """
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
    write_whole(path, json.dumps(results, indent=1) + "\n")
    return path
