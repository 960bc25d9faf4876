"""Open a data set by name or from the `data` part of a configuration."""

import importlib
from pathlib import Path
from typing import Any

from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.config import SETS, DataConfig
from ssl_parts.data.records import PartsDataset
from ssl_parts.data.sets.index_cache import cache_home
from ssl_parts.errors import ConfigError


def build_dataset(
    name: str, root: str | Path | None = None, split: str = "train", **options: Any
) -> PartsDataset:
    """Open a data set that is on this disk; nothing is downloaded.

    Args:
        name: a key of `SETS`.
        root: its folder; None for synthetic_birds.
        split: train, test, fit, val or trainval; see `splits`.
        options: of that set's class, such as allow_partial or seed.

    Raises:
        ConfigError: unknown name, split or option.
        DataError: what is on disk is not that set.
    """
    if name not in SETS:
        raise ConfigError(
            f"data.name={name!r} is unknown{did_you_mean(name, SETS)}; there are: {', '.join(SETS)}"
        )
    module, _, attribute = SETS[name].home.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    known = SETS[name].options
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{name} has no option {option!r}{did_you_mean(option, known)}; it has: {', '.join(known)}"
            )
    if name == "synthetic_birds":  # drawn: its own validation set is not part of its training set
        return kind("train" if split == "fit" else split, **options)
    return kind(root, split, **options)


def open_dataset(config: DataConfig, split: str | None = None) -> PartsDataset:
    """The configured data set; `split` defaults to the one that is trained on.

    Raises:
        ConfigError, DataError: as `build_dataset`.
    """
    split = split or config.split
    return build_dataset(config.name, config.root, split, **config.options(split))


def build_bank(
    config: DataConfig, split: str | None = None, cache_dir: str | Path | None = None, **fill: Any
) -> ImageBank:
    """The configured data set as an `ImageBank`; every image is looked at, bad ones treated as
    `on_bad_image` says.

    Args:
        split: the one that is trained on by default.
        cache_dir: of cache=disk where the configuration names none.
        fill: of `ImageBank.fill`: workers, progress, start.

    Raises:
        ConfigError, DataError: as `build_dataset`, `ImageBank` and `ImageBank.fill`.
    """
    folder = config.cache_dir or cache_dir or cache_home() / "images"
    bank = ImageBank(open_dataset(config, split), config.size, config.fit, config.cache, folder)
    return bank.fill(config.on_bad_image.value, **fill)
