"""Open a data set by name or from the `data` part of a configuration."""

import importlib
from pathlib import Path
from typing import Any

from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.config import SETS, DataConfig
from ssl_parts.data.index_cache import cache_home
from ssl_parts.data.records import PartsDataset
from ssl_parts.errors import ConfigError

HOMES = {
    "synthetic_birds": "ssl_parts.data.sets.synthetic_birds:SyntheticBirds",
    "folder": "ssl_parts.data.sets.folder:Folder",
    "part_folder": "ssl_parts.data.sets.part_folder:PartFolder",
    "coco_parts": "ssl_parts.data.sets.coco_parts:CocoParts",
    "shards": "ssl_parts.data.sets.shards:Shards",
    "cub": "ssl_parts.data.sets.cub:CUB",
    "nabirds": "ssl_parts.data.sets.nabirds:NABirds",
    "pascub": "ssl_parts.data.sets.pascub:PasCUB",
    "aircraft": "ssl_parts.data.sets.aircraft:Aircraft",
    "oid_aircraft": "ssl_parts.data.sets.oid_aircraft:OIDAircraft",
    "cars": "ssl_parts.data.sets.cars:Cars",
    "carparts": "ssl_parts.data.sets.part_folder:CarParts",
    "dogs": "ssl_parts.data.sets.dogs:Dogs",
    "pets": "ssl_parts.data.sets.pets:Pets",
    "flowers102": "ssl_parts.data.sets.flowers102:Flowers102",
    "inat": "ssl_parts.data.sets.inat:INat",
    "part_imagenet": "ssl_parts.data.sets.part_imagenet:PartImageNet",
    "celeba_mask": "ssl_parts.data.sets.celeba_mask:CelebAMask",
}


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
    kind = find_class(name)
    known = SETS[name]
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


def find_class(name: str) -> type:
    """The class of a set, imported on first use."""
    module, _, attribute = HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
