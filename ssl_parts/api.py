"""The commands as Python functions, for notebooks and scripts: same checks, same run folder, same
resume.

Keys of the configuration are sections as dictionaries, and choices of a group as text:
`pretrain(..., train={"epochs": 10}, parts="dataset")` is `train.epochs=10 parts=dataset` of the
command line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.protocols import Bench
from evaluation.results import Row, read_results
from evaluation.tables import format_table, headings
from ssl_parts.commands.acts import settle_encoder
from ssl_parts.configuration.compose import CONFIGS
from ssl_parts.data import build_bank
from ssl_parts.encoders import Encoder, locate, make_encoder, open_encoder
from ssl_parts.engine.start import choose_device, set_threads
from ssl_parts.errors import ConfigError
from ssl_parts.jobs import discover as discovery
from ssl_parts.jobs import evaluate as evaluation_job
from ssl_parts.jobs import pretrain as pretrain_job
from ssl_parts.parts import PartStore
from ssl_parts.recipes.load import load_discovery, load_evaluation, load_recipe

Section = Mapping[str, Any] | str  # keys with values, or the name of a group's choice


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: the run's folder.
    """

    folder: Path

    @cached_property
    def rows(self) -> list[Row]:
        """What was measured: one row per encoder and protocol; [] for unlabelled images."""
        return read_results(self.folder / "results.json").rows

    @property
    def table(self) -> str:
        """The comparison as a Markdown table; "" for unlabelled images."""
        return format_table(self.rows, headings(self.rows)) if self.rows else ""

    @cached_property
    def encoder(self) -> Encoder:
        """The trained encoder, in evaluation mode."""
        return open_encoder(self.folder).eval()

    @property
    def export(self) -> Path:
        """The folder that timm opens: `timm.create_model(f"local-dir:{result.export}")`."""
        return self.folder / "export"

    @property
    def report(self) -> Path:
        """The HTML page of the run."""
        return self.folder / "report.html"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return f"{self.table}\n\n`{self.folder}`"


def pretrain(
    out: str | Path,
    data: str | Path | None = None,
    *,
    recipe: str = "folder",
    encoder: Section | None = None,
    weights: str | Path | None = None,
    **sections: Section,
) -> Result:
    """Adapt an encoder to a folder of images, and measure what was gained where it has labels.

    The same call goes on where an earlier one was stopped.

    Args:
        out: folder of the run.
        data: folder of the images; None for a recipe that draws its own.
        recipe: a file of configs/pretrain, without .yaml.
        encoder: a choice of configs/encoder or one of timm's names. weights: a file, a folder, a
            run, or "pretrained" for timm's own.
        sections: further keys, as `train={"epochs": 10}`, `data_keys={"test_share": 0.3}` for those
            of data, and choices of groups, as `parts="dataset"`.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: before training and before any
            file. TrainingError: a run that cannot go on; what it has on disk stays.

    Example:
        >>> result = ssl_parts.pretrain(  # doctest: +SKIP
        ...     "runs/mine", "photographs", weights="mobilenetv2.pth", train={"epochs": 20}
        ... )
        >>> print(result.table)  # doctest: +SKIP
    """
    words = [*_place(out), *_data(data), *_encoder(encoder, weights), *to_words(sections)]
    config = settle_encoder(load_recipe(recipe, words), words)
    pretrain_job.pretrain(config)
    return Result(config.run.folder)


def discover(
    out: str | Path,
    data: str | Path,
    *,
    encoder: Section | None = None,
    weights: str | Path | None = None,
    **sections: Section,
) -> PartStore:
    """Find parts in every image of a folder: ids in `OUT/parts`, a sheet in `OUT/parts.png`.

    Args:
        out: folder of the discovery. data, encoder, weights, sections: as in `pretrain`.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: as the command `discover`.

    Example:
        >>> store = ssl_parts.discover(  # doctest: +SKIP
        ...     "runs/parts", "photographs", weights="runs/mine", parts="dataset"
        ... )
        >>> store.batch([0, 1]).shape  # doctest: +SKIP
        torch.Size([2, 28, 28])
    """
    words = [*_place(out), *_data(data), *_encoder(encoder, weights), *to_words(sections)]
    config = settle_encoder(load_discovery("default", words), words)
    config.check()
    discovery.discover(config)
    return PartStore.open(config.run.folder / "parts")


def evaluate(
    weights: str | Path,
    data: str | Path,
    *,
    protocol: Section = "linear",
    encoder: Section | None = None,
    out: str | Path = "runs/evaluation/encoder",
    **sections: Section,
) -> list[Row]:
    """Measure a frozen encoder by one protocol of evaluation/PROTOCOLS.md.

    Args:
        weights: a run, an export, a checkpoint or a file. data: a folder with train/ and test/, or
            without and `data_keys={"test_share": 0.3}`.
        protocol: "linear", "few_label", "knn", "parts", ..., or its keys.
        encoder: as in `pretrain`, where the weights do not say their network.
        out: its name stands in tables; results.json lies below it.

    Raises:
        ConfigError, DataError, WeightsError: as the command `evaluate`.

    Example:
        >>> rows = ssl_parts.evaluate("runs/mine", "photographs", protocol="knn")  # doctest: +SKIP
        >>> rows[0].values["accuracy@k=10"].mean  # doctest: +SKIP
    """
    words = [*_place(out), *_data(data, "folder"), *_encoder(encoder, weights)]
    words += _section("protocol", protocol) + to_words(sections)
    config = settle_encoder(load_evaluation("default", words), words)
    config.check()
    return read_results(evaluation_job.evaluate(config)).rows


@dataclass(frozen=True)
class Embeddings:
    """One vector per image of a folder.

    Attributes:
        vectors: float32 (N, D). paths: N files, relative to the folder. labels: N class numbers,
            -1 where unlabelled. classes: their names.
    """

    vectors: np.ndarray
    paths: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]


def embed(
    weights: str | Path,
    data: str | Path,
    *,
    pooling: str = "pooled",
    encoder: Section | None = None,
    split: str = "train",
    size: int | None = None,
    **sections: Section,
) -> Embeddings:
    """Embed every image of a folder with a frozen encoder.

    Args:
        weights, encoder: as in `evaluate`. data: any folder of images.
        pooling: "pooled" for one pass an image; "crops" averages passes over the image, its mirror
            image, its found object and its found parts, which discovery finds in these images
            without labels: five to seven passes.
        split: of a folder that has train/ and test/.
        size: pixels a side; None: as the encoder was trained.

    Raises:
        ConfigError, DataError, WeightsError: as the command `evaluate`; an unknown pooling.

    Example:
        >>> embeddings = ssl_parts.embed("runs/mine", "photographs", pooling="crops")  # doctest: +SKIP
        >>> embeddings.vectors.shape  # doctest: +SKIP
        (200, 1280)
    """
    size = size or locate(Path(weights)).image_size
    sized = [] if size is None else [f"data.size={size}"]
    words = [*_data(data, "folder"), f"data.split={split}", *sized, *_encoder(encoder, weights)]
    words += to_words(sections)
    config = settle_encoder(load_evaluation("default", words), words)
    config.check()
    set_threads(config.run.threads)
    bank = build_bank(config.data)
    network = make_encoder(config.encoder).eval()
    bench = Bench(network, bank, bank, choose_device(config.run.device), config.run.batch)
    table = bench.pooled(bank, pooling)
    return Embeddings(table.pooled, bank.paths, table.labels, bank.dataset.classes)


# ---------------------------------------------------------------- Python's values as key=value


def to_words(sections: Mapping[str, Section]) -> list[str]:
    """Sections as words of the command line; `data_keys` are the keys of data.

    Example:
        >>> to_words({"train": {"epochs": 3, "clip": None}, "parts": "dataset"})
        ['parts=dataset', 'train.epochs=3', 'train.clip=null']
    """
    words = [word for name, value in sections.items() for word in _section(name, value)]
    return sorted(words, key=lambda word: "." in word.partition("=")[0])  # groups first


def _section(name: str, value: Section) -> list[str]:
    name = "data" if name == "data_keys" else name
    if isinstance(value, str):
        return [f"{name}={value}"]
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name}={value!r}: give a section's keys as a dictionary, such as "
            f"{name}={{'KEY': {value!r}}}, or the name of a choice as text"
        )
    nested = {f"{name}.{key}": each for key, each in value.items()}
    return [
        word
        for key, each in nested.items()
        for word in (_section(key, each) if isinstance(each, Mapping) else [f"{key}={_text(each)}"])
    ]


def _text(value: Any) -> str:
    """A value as the command line spells it."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _place(out: str | Path) -> list[str]:
    out = Path(out).expanduser()
    return [f"run.dir={out.parent}", f"run.name={out.name}"]


def _data(data: str | Path | None, group: str | None = None) -> list[str]:
    chosen = [] if group is None else [f"data={group}"]
    return chosen if data is None else [*chosen, f"data.root={Path(data).expanduser()}"]


def _encoder(encoder: Section | None, weights: str | Path | None) -> list[str]:
    words = [] if weights is None else [f"encoder.weights={weights}"]
    if isinstance(encoder, str):
        known = (CONFIGS / "encoder" / f"{encoder}.yaml").is_file()
        return [f"encoder={encoder}" if known else f"encoder.name={encoder}", *words]
    return words if encoder is None else [*_section("encoder", encoder), *words]
