"""The `data` part of a configuration, and every data set by name, one row each.

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError

SIZES = (8, 4096)  # pixels of a stored square
SPLITS = ("train", "fit", "val", "trainval", "test")
# options that only some sets have; null where they do not apply
# sets that are read from whatever a folder holds
ANY_FOLDER = ("folder", "part_folder", "coco_parts", "shards")
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


# options that the class of each set takes; data/sets/catalogue.py says where the classes are
SETS: dict[str, tuple[str, ...]] = {
    "synthetic_birds": ("images", "size", "seed", "species"),
    "folder": ("labelled", "test_share", "seed"),
    "part_folder": ("allow_partial", "seed"),
    "coco_parts": ("allow_partial", "seed"),
    "shards": ("seed",),
    "cub": ("allow_partial", "seed"),
    "nabirds": ("allow_partial", "seed"),
    "pascub": ("crop", "allow_partial", "seed"),
    "aircraft": ("level", "allow_partial"),
    "oid_aircraft": ("allow_partial", "seed"),
    "cars": ("allow_partial", "seed"),
    "carparts": ("allow_partial", "seed"),
    "dogs": ("allow_partial", "seed"),
    "pets": ("allow_partial", "seed"),
    "flowers102": ("allow_partial",),
    "inat": ("version", "allow_partial", "seed"),
    "part_imagenet": ("allow_partial", "seed"),
    "celeba_mask": ("allow_partial",),
}


class Fit(Enum):
    crop = "crop"  # centre square of 0.875 * min(W, H): the published protocol on CUB
    # the whole image, its aspect ratio given up: the published protocol on Aircraft and Cars
    squash = "squash"
    square = "square"  # centre square of min(W, H)
    pad = "pad"  # the whole image, letterboxed with its mean colour

    @classmethod
    def of(cls, value: "Fit | str") -> "Fit":
        """Raises ConfigError for an unknown name."""
        if isinstance(value, cls):
            return value
        if value not in cls.__members__:
            raise ConfigError(
                f"data.fit={value!r} is unknown; choose one of {', '.join(cls.__members__)}"
            )
        return cls[str(value)]


class Cache(Enum):
    memory = "memory"  # in this process, filled on first use
    disk = "disk"  # memory-mapped, shared by processes, kept between runs
    none = "none"  # decoded whenever it is read


class OnDevice(Enum):
    auto = "auto"  # on a GPU where they take at most a quarter of the free memory
    always = "always"
    never = "never"


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
    # what tables and files call it; null: the name, or that of the folder where any one is read
    title: str | None = None
    root: str | None = None  # folder of the unpacked archive
    split: str = "train"  # what is trained on: train, fit or trainval
    test_split: str = "test"  # what is reported on; val while tuning
    size: int = 64  # side of the square in pixels
    fit: Fit = Fit.crop  # how an image becomes a square
    on_bad_image: OnBadImage = OnBadImage.error
    allow_partial: bool = False  # use a copy of a set with fewer images than published
    seed: int = bounded(0, at_least=0)  # of drawn images, and of cuts into fit, val and test
    # --- of some sets only
    images: int | None = bounded(None, at_least=1)  # synthetic_birds: number of training images
    test_images: int | None = bounded(
        None, at_least=1
    )  # synthetic_birds: number of validation or test images
    species: int | None = bounded(None, at_least=1)  # synthetic_birds: number of classes
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
                f"data.name={self.name!r} is unknown{did_you_mean(self.name, SETS)}; there are: {', '.join(SETS)}"
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
        check_bounds("data", self)
        self.options(self.split)
        if self.title is not None and (not self.title or set(self.title) & set("/\\\0")):
            raise ConfigError(f"data.title={self.title!r}: it is part of file names, so no slashes")

    @property
    def display_name(self) -> str:
        """What tables and files call the data set."""
        if self.title is None and self.name in ANY_FOLDER and self.root is not None:
            return Path(self.root).resolve().name or self.name
        return self.title or self.name

    def options(self, split: str) -> dict[str, Any]:
        """Options for the class of this set.

        Raises:
            ConfigError: an option that is set and that this set does not have.
        """
        known = SETS[self.name]
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
