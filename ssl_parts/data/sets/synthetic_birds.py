"""SyntheticBirds: the embedded data set. Forty species of drawn birds with exact part masks,
keypoints and boxes.

It needs no download and is hard in the way that photographs of birds are: pose, light and
background make up nearly all of the pixels' variance, and the species of one genus differ in two
small parts. Image i is a pure function of (seed, split, i): neither the number of images, nor the
order of reading, nor the process changes it.
"""

from typing import Any

import numpy as np
import torch

from ssl_parts.data.records import Sample
from ssl_parts.data.sets.birds.anatomy import KEYPOINT_NAMES, PART_NAMES
from ssl_parts.data.sets.birds.render import Drawing, draw_bird
from ssl_parts.data.sets.birds.species import ALL_SPECIES, GENERA, SPECIES_A_GENUS, VARYING
from ssl_parts.errors import DataError

SPLITS = {"train": 0, "val": 1, "test": 2}
IMAGES = {"train": 4000, "val": 1000, "test": 2000}
SIZES = (48, 512)
_ORDER, _IMAGE = 0, 1  # what a generator is for: the order of the labels, or one image


def _check(split: str, images: int, size: int, seed: int, species: int) -> None:
    if split not in SPLITS:
        raise DataError(
            f"synthetic_birds has no split {split!r}; choose one of {', '.join(SPLITS)}"
        )
    if not _whole(images, 1, 2**31):
        raise DataError(
            f"synthetic_birds: images={images!r}; give a whole number of images, 1 or more"
        )
    if not _whole(size, *SIZES):
        raise DataError(
            f"synthetic_birds: size={size!r} pixels; give a whole number from {SIZES[0]} to {SIZES[1]}"
        )
    if not _whole(seed, 0, 2**32 - 1):
        raise DataError(f"synthetic_birds: seed={seed!r}; give a whole number from 0 to 2**32 - 1")
    if not _whole(species, SPECIES_A_GENUS, len(ALL_SPECIES)) or species % SPECIES_A_GENUS:
        raise DataError(
            f"synthetic_birds: species={species!r}; give a multiple of {SPECIES_A_GENUS} from {SPECIES_A_GENUS} to "
            f"{len(ALL_SPECIES)}, for whole genera of {SPECIES_A_GENUS} species each"
        )


def _whole(value: Any, low: int, high: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and low <= int(value) <= high


def species_traits(species: int = len(ALL_SPECIES)) -> list[dict[str, str]]:
    """What each species looks like: one row a class with its name, genus, the two parts that tell
    it from the other species of its genus ("varies"), and how its crown, beak, breast, wing and
    tail look."""
    rows = []
    for i, bird in enumerate(ALL_SPECIES[:species]):
        row = {
            "class": class_name(i),
            "genus": bird.genus.name,
            "varies": " and ".join(bird.genus.varies),
        }
        rows.append(row | {part: str(bird.marks[part]) for part in VARYING})
    return rows


def class_name(species: int) -> str:
    """Name of species 0..39: the genus with its number, and the number of the species in it."""
    genus, member = divmod(species, SPECIES_A_GENUS)
    return f"genus_{genus:02d}_{GENERA[genus].name}_species_{member}"


class SyntheticBirds:
    """Procedural, fine-grained birds; a `PartsDataset`.

    Args:
        split: "train", "val" or "test"; no two splits share an image.
        images: number of images; by default 4000, 1000 and 2000. Fewer images are a prefix of
            more.
        size: side of the square images in pixels, 48 to 512. The same scene is drawn at every
            size.
        seed: another seed gives other images and another order of labels. Species look the same
            under every seed.
        species: number of classes, a multiple of 4 up to 40: the first `species / 4` genera with 4
            species each.

    Samples carry image uint8 (3, size, size), label, path, box around the visible bird, part_mask
    uint8 (size, size) with ids 1..8 of `part_names` (0 also where a twig hides the bird), and
    keypoints float32 (10, 3).

    Raises:
        DataError: an unknown split; a size, a number of images or species, or a seed out of range.
    """

    name = "synthetic_birds"

    def __init__(
        self,
        split: str,
        images: int | None = None,
        size: int = 64,
        seed: int = 0,
        species: int = len(ALL_SPECIES),
    ) -> None:
        images = IMAGES.get(split, 1) if images is None else images
        _check(split, images, size, seed, species)
        self.split, self.size, self.seed, self.species = split, int(size), int(seed), int(species)
        self.part_names, self.keypoint_names = list(PART_NAMES), list(KEYPOINT_NAMES)
        self.classes = [class_name(i) for i in range(species)]
        self.species_traits = species_traits(species)
        self.labels = self._order(int(images))
        self.paths = [f"synthetic_birds/seed_{seed}/{split}/{i:06d}" for i in range(images)]

    def _rng(self, purpose: int, i: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence((self.seed, SPLITS[self.split], purpose, i)))
        )

    def _order(self, images: int) -> np.ndarray:
        """Each run of `species` images holds every species once, in an order of its own: balanced
        for any prefix.
        """
        runs = -(-images // self.species)
        labels = [self._rng(_ORDER, run).permutation(self.species) for run in range(runs)]
        return np.concatenate(labels)[:images].astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, i: int, species: int | None = None) -> Drawing:
        """The numpy drawing of image i; with `species`, the same scene and pose with another
        species of its genus.
        """
        return draw_bird(
            self._rng(_IMAGE, i), int(self.labels[i]) if species is None else species, self.size
        )

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(
                f"synthetic_birds {self.split} has {len(self)} images; there is no image {i}"
            )
        i = int(i) % len(self)
        drawing = self.draw(i)
        return Sample(
            image=torch.from_numpy(np.ascontiguousarray(drawing.image.transpose(2, 0, 1))),
            label=int(self.labels[i]),
            path=self.paths[i],
            box=_box(drawing.mask),
            part_mask=torch.from_numpy(drawing.mask),
            keypoints=torch.from_numpy(drawing.keypoints),
        )


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Extent of the foreground of a mask, with the far edges of the last pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
