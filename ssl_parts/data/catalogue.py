"""Every data set by name, one row each, and the `data` part of a configuration."""

import difflib
import importlib
import inspect
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ssl_parts.data.bank import SIZES, Cache, ImageBank
from ssl_parts.data.device_bank import OnDevice
from ssl_parts.data.geometry import Fit
from ssl_parts.data.records import PartsDataset
from ssl_parts.data.sets.index_cache import cache_home
from ssl_parts.errors import ConfigError

SETS = {
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
            f"data.name={name!r} is unknown{_near(name, SETS)}; there are: {', '.join(SETS)}"
        )
    module, _, attribute = SETS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{name} has no option {option!r}{_near(option, known)}; it has: {', '.join(known)}"
            )
    if name == "synthetic_birds":  # drawn: its own validation set is not part of its training set
        return kind("train" if split == "fit" else split, **options)
    return kind(root, split, **options)


def options_of(name: str) -> list[str]:
    """Keyword options of a set's class."""
    module, _, attribute = SETS[name].partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    return [parameter for parameter in parameters if parameter not in ("root", "split")]


class OnBadImage(Enum):
    error = "error"  # stop before training and name them
    skip = "skip"  # leave them out, and say how many


@dataclass
class DataConfig:
    """Which images, and how they are read. An option that the chosen set does not have must stay
    null.
    """

    # --- which images: changes results
    name: str = "synthetic_birds"  # a key of SETS
    root: str | None = None  # folder of the unpacked archive
    split: str = "train"  # what is trained on: train, fit or trainval
    test_split: str = "test"  # what is reported on; val while tuning
    size: int = 64  # side of the square in pixels
    fit: Fit = Fit.crop  # how an image becomes a square
    on_bad_image: OnBadImage = OnBadImage.error
    allow_partial: bool = False  # use a copy of a set with fewer images than published
    seed: int = 0  # of drawn images, and of cuts into fit, val and test
    # --- of some sets only
    images: int | None = None  # synthetic_birds: number of training images
    test_images: int | None = None  # synthetic_birds: number of validation or test images
    species: int | None = None  # synthetic_birds: number of classes
    test_share: float | None = None  # folder: share of each class that is cut off as test
    labelled: bool | None = None  # folder: false ignores class folders
    level: str | None = None  # aircraft: variant, family or manufacturer
    crop: bool | None = None  # pascub: false keeps images whole
    version: str | None = None  # inat: 2021, 2021_mini, 2019, 2018 or 2017
    # --- changes speed only
    cache: Cache = Cache.memory  # where resized images are kept
    # whether training reads them from a copy in the GPU's memory
    on_device: OnDevice = OnDevice.auto
    # of cache=disk; null: the run's, or SSL_PARTS_CACHE, or ~/.cache/ssl_parts
    cache_dir: str | None = None

    def check(self) -> None:
        """Raises ConfigError: unknown set or split, a size out of range, an option of another set."""
        if self.name not in SETS:
            raise ConfigError(
                f"data.name={self.name!r} is unknown{_near(self.name, SETS)}; there are: {', '.join(SETS)}"
            )
        if self.name != "synthetic_birds" and not (self.root or "").strip():
            empty = "" if self.root is None else " (it is empty: an unset shell variable?)"
            raise ConfigError(
                f"data={self.name} is read from disk: set data.root to the folder that holds it{empty}"
            )
        low, high = (48, 512) if self.name == "synthetic_birds" else SIZES
        if not low <= self.size <= high:
            raise ConfigError(
                f"data.size={self.size} must lie in {low}..{high} pixels for data={self.name}"
            )
        for key in ("split", "test_split"):
            if getattr(self, key) not in SPLITS:
                raise ConfigError(
                    f"data.{key}={getattr(self, key)!r} is unknown; choose one of {', '.join(SPLITS)}"
                )
        for key in ("images", "test_images", "species"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ConfigError(f"data.{key}={getattr(self, key)} must be at least 1")
        self._options(self.split)

    def build(self, split: str | None = None) -> PartsDataset:
        """The data set; `split` defaults to the one that is trained on.

        Raises:
            ConfigError, DataError: as `build_dataset`.
        """
        split = split or self.split
        return build_dataset(self.name, self.root, split, **self._options(split))

    def _options(self, split: str) -> dict[str, Any]:
        """Options for the class of this set.

        Raises:
            ConfigError: an option that is set and that this set does not have.
        """
        known = options_of(self.name)
        drawn = self.name == "synthetic_birds"
        given = {key: getattr(self, key) for key in OF_SOME_SETS if getattr(self, key) is not None}
        for key in given:
            if key not in known and not (drawn and key == "test_images"):
                raise ConfigError(
                    f"data.{key}={given[key]}: data={self.name} has no such option; leave it null"
                )
        if drawn:
            number = given.pop("test_images", None)
            images = given.pop("images", None) if split in ("train", "fit") else number
            return (
                given
                | {"size": self.size, "seed": self.seed}
                | ({} if images is None else {"images": images})
            )
        always = {"allow_partial": self.allow_partial, "seed": self.seed}
        return given | {key: value for key, value in always.items() if key in known}


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
    bank = ImageBank(config.build(split), config.size, config.fit, config.cache, folder)
    return bank.fill(config.on_bad_image.value, **fill)


SPLITS = ("train", "fit", "val", "trainval", "test")
OF_SOME_SETS = (
    "images",
    "test_images",
    "species",
    "test_share",
    "labelled",
    "level",
    "crop",
    "version",
)


def _near(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
