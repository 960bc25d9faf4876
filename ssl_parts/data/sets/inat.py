"""iNaturalist, as its competitions' archives unpack.

2021          2021_train/, 2021_train_mini/, 2021_valid/ (or train/, train_mini/, val/): folders of species, read
              through torchvision
2017 to 2019  train_val2019/... with train2019.json and val2019.json, COCO-style lists
"""

import json
from pathlib import Path

from ssl_parts.data.sets.archive import find_root
from ssl_parts.data.sets.image_files import ListedImages, Listing
from ssl_parts.data.sets.tree import list_images
from ssl_parts.errors import ConfigError, DataError

# version → split → the folders it may have; the public validation set is what results are reported
# on
FOLDERS = {
    "2021": {"train": ("2021_train", "train"), "test": ("2021_valid", "val")},
    "2021_mini": {"train": ("2021_train_mini", "train_mini"), "test": ("2021_valid", "val")},
}
LISTS = ("2019", "2018", "2017")


class INat(ListedImages):
    """iNaturalist; a `PartsDataset` with species. Its public validation set is split test; val is
    a cut of train.

    Args:
        root: the folder that holds the folders above.
        split: train, test, fit and val (a seeded cut of train), or trainval (= train).
        version: 2021, 2021_mini, 2019, 2018 or 2017.
        allow_partial: use listed images that are there (2017 to 2019); folders are taken as they
            are.
        seed: of the cut.

    Raises:
        ConfigError: an unknown version.
        DataError: folders or lists missing or damaged.
    """

    name = "inat"

    def __init__(
        self,
        root: str | Path | None,
        split: str = "train",
        version: str = "2021",
        allow_partial: bool = False,
        seed: int = 0,
    ) -> None:
        if version not in (*FOLDERS, *LISTS):
            raise ConfigError(
                f"data.version={version!r} is unknown; choose one of {', '.join((*FOLDERS, *LISTS))}"
            )
        root = find_root(self.name, root, ())
        listing = _read_folders(root, version) if version in FOLDERS else _read_lists(root, version)
        super().__init__(listing, None, split, allow_partial, seed)


def _read_folders(root: Path, version: str) -> Listing:
    paths, labels, splits, classes = [], [], [], None
    for split, names in FOLDERS[version].items():
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is None:
            if split == "train":
                raise DataError(f"inat {version}: {' nor '.join(names)} found in {root}")
            continue
        categories, index = _species(folder)
        if classes is not None and categories != classes:
            raise DataError(
                f"inat {version}: {folder} has other species than the training set; unpack both again"
            )
        classes = categories
        for label, name in index:
            paths.append(f"{folder.name}/{categories[label]}/{name}")
            labels.append(label)
            splits.append(split)
    return Listing(root, paths, labels, splits, classes or [])


def _species(folder: Path) -> tuple[list[str], list[tuple[int, str]]]:
    """Species, and (species, file) of each image."""
    paths = [path for path in list_images(folder) if path.count("/") == 1]
    if not paths:
        raise DataError(f"inat: {folder} holds no folders of species with images")
    species = sorted({path.split("/")[0] for path in paths})
    number = {name: i for i, name in enumerate(species)}
    return species, [(number[path.split("/")[0]], path.split("/")[1]) for path in paths]


def _read_lists(root: Path, version: str) -> Listing:
    paths, labels, splits = [], [], []
    for split, file in (
        ("train", root / f"train{version}.json"),
        ("test", root / f"val{version}.json"),
    ):
        try:
            content = json.loads(file.read_bytes())
            species = {row["image_id"]: int(row["category_id"]) for row in content["annotations"]}
            rows = [(str(row["file_name"]), species[row["id"]]) for row in content["images"]]
            names = {int(row["id"]): str(row["name"]) for row in content.get("categories", [])}
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise DataError(
                f"inat {version}: cannot read {file} ({type(error).__name__}: {error})"
            ) from error
        paths += [name for name, _ in rows]
        labels += [label for _, label in rows]
        splits += [split] * len(rows)
    used = sorted(set(labels))
    order = {label: i for i, label in enumerate(used)}
    classes = [names.get(label, str(label)) for label in used]
    return Listing(root, paths, [order[label] for label in labels], splits, classes)
