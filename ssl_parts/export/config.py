"""What an export takes: key=value words become one checked configuration.

Imports no torch: schemas are read before anything heavy is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_parts.configuration.compose import compose_words
from ssl_parts.errors import ConfigError
from ssl_parts.export.formats import FORMAT_NAMES


@dataclass
class ExportConfig:
    """One export command."""

    # run directory, round, checkpoint, earlier export; with `name`, any weights the loader reads
    source: str = ""
    to: str = "timm"  # one or more formats, with commas between
    out: str | None = None  # the folder of one format, the parent of several; null: SOURCE/exports
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
        """The formats of `to`, one by one."""
        return [word.strip() for word in self.to.split(",") if word.strip()]

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work, before anything is written."""
        if not self.source:
            raise ConfigError("source=... is missing: a run directory, a checkpoint or an export")
        unknown = [to for to in self.formats if to not in FORMAT_NAMES]
        if unknown or not self.formats:
            raise ConfigError(f"to={self.to}: choose from {', '.join(FORMAT_NAMES)}")
        if self.out is None and not self.source_path.is_dir():
            raise ConfigError(
                f"out=DIR is missing; only a run directory has a place of its own, {self.source} is none"
            )
        if self.push is not None and not {"hf", "timm"} & set(self.formats):
            raise ConfigError(
                f"push={self.push} uploads the hf or the timm export, but to={self.to}"
            )

    @property
    def source_path(self) -> Path:
        """`source` as a path."""
        return Path(self.source).expanduser()

    @property
    def base(self) -> Path:
        """The folder of one format, or the parent of several."""
        return self.source_path / "exports" if self.out is None else Path(self.out).expanduser()


def compose_export(recipe: None, words: Sequence[str]) -> ExportConfig:
    """The keys of an export, not yet checked; raises as `compose_words`."""
    return compose_words(ExportConfig, words)


def parse(words: Sequence[str]) -> ExportConfig:
    """The keys of an export, checked.

    Raises:
        ConfigError: an unknown key, with the nearest known one; a value that cannot work.

    Example:
        >>> parse(["source=runs/mine", "to=timm,onnx", "out=exports"]).formats
        ['timm', 'onnx']
    """
    config = compose_export(None, words)
    config.check()
    return config
