"""Which mask belongs to which image in folders images/ and masks/, in either case of letters."""

import json
from collections import Counter
from pathlib import Path

from ssl_parts.data.records import IGNORE, MAX_PARTS
from ssl_parts.data.sets.archive import list_folder, read_lines
from ssl_parts.data.sets.image_files import Listing
from ssl_parts.data.sets.label_table import read_labels
from ssl_parts.data.sets.name_match import NameMatch, without_suffix
from ssl_parts.data.sets.remarks import counted, first_of
from ssl_parts.data.sets.split_names import split_of
from ssl_parts.data.sets.text import read_text
from ssl_parts.data.sets.tree import is_hidden, read_tree, suffix_of
from ssl_parts.errors import DataError

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
ORDER = ("train", "val", "test")


def list_pairs(root: Path, name: str, allow_partial: bool) -> Listing:
    """All images below images/ that have a mask below masks/; `keys` are the masks.

    Raises:
        DataError: folders missing, images without masks that were not allowed, names that fit
        twice.
    """
    remarks: list[str] = []
    paths: list[str] = []
    below: list[str] = []
    keys: list[str] = []
    splits: list[str] = []
    root = _only_folder(root)
    for split, (images, masks) in _places(root, name, remarks).items():
        tree = read_tree(root / images)
        pairs = _pair(root, tree.images, images, masks, remarks)
        remarks += tree.remarks()
        paths += [f"{images}/{path}" for path in tree.images]
        below += tree.images
        keys += [pairs.get(path, "") for path in tree.images]
        splits += [split] * len(tree.images)
    lacking = [path for path, key in zip(paths, keys) if not key]
    if lacking and not allow_partial:
        raise DataError(_lacking(root, name, lacking, len(paths)))
    keep = [i for i, key in enumerate(keys) if key]
    if lacking:
        remarks.append(
            f"{counted(len(lacking), 'image')} without a mask left out: {first_of(lacking)}"
        )
    paths, keys, splits = ([column[i] for i in keep] for column in (paths, keys, splits))
    labels, classes = _label(root, [below[i] for i in keep], remarks)
    account = [
        f"split {s}: {counted(splits.count(s), 'image')} with masks" for s in ORDER if s in splits
    ]
    return Listing(root, paths, labels, splits, classes, keys, remarks=remarks, account=account)


def _only_folder(root: Path) -> Path:
    """root, or the folder in it where that is all there is and holds the images."""
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and not is_hidden(f.name)]
    if len(folders) == 1 and split_of(folders[0].name) is None and _find(root, "images") is None:
        return _only_folder(folders[0])
    return root


def _places(root: Path, name: str, remarks: list[str]) -> dict[str, tuple[str, str]]:
    """Split → its folders of images and masks."""
    tops: dict[str, list[str]] = {}
    for folder in sorted(f.name for f in root.iterdir() if f.is_dir()):
        said = split_of(folder)
        if said is not None and said.rest in ("", "trainval"):
            tops.setdefault(said.split, []).append(folder)
    for split, folders in tops.items():
        if len(folders) > 1:
            raise DataError(
                f"{name}: {folders[0]}/ and {folders[1]}/ in {root} both look like split {split}; "
                f"keep one of them"
            )
    prefixes = {split: f"{folders[0]}/" for split, folders in tops.items()}
    prefixes = {"train": prefixes.get("train", "")} | prefixes
    places = {}
    for split in (s for s in ORDER if s in prefixes):
        found = [_find(root / prefixes[split], kind) for kind in ("images", "masks")]
        lacking = [kind for kind, folder in zip(("images", "masks"), found) if folder is None]
        if lacking and split == "train":
            place = root / prefixes[split]
            raise DataError(
                f"{name}: no folder {place / lacking[0]}; it wants images/NAME.jpg and "
                f"masks/NAME.png, and {place} "
                f"holds {list_folder(place)}"
            )
        if lacking:
            remarks.append(f"{prefixes[split]} has no {lacking[0]}/ and is left out")
        else:
            places[split] = (f"{prefixes[split]}{found[0]}", f"{prefixes[split]}{found[1]}")
    return places


def _find(folder: Path, kind: str) -> str | None:
    """The name of the folder `kind` in either case."""
    if (folder / kind).is_dir():
        return kind
    names = sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []
    return NameMatch(names).find(kind)


def _pair(
    root: Path, images: list[str], image_folder: str, mask_folder: str, remarks: list[str]
) -> dict[str, str]:
    """Image below its folder → its mask, relative to root."""
    twice = [stem for stem, n in Counter(without_suffix(path) for path in images).items() if n > 1]
    if twice:
        raise DataError(
            f"{root / image_folder} holds several images {min(twice)}.*, which share one mask; "
            f"keep one of them"
        )
    files = read_tree(root / mask_folder).images
    masks = {without_suffix(file): file for file in files if suffix_of(file) in LOSSLESS}
    names = NameMatch(masks)
    pairs = {path: masks[key] for path in images if (key := names.find(without_suffix(path)))}
    unused = set(masks.values()) - set(pairs.values())
    if unused:
        remarks.append(f"{counted(len(unused), 'mask')} without an image: {first_of(unused)}")
    if files and not masks:
        raise DataError(
            f"{root / mask_folder}: masks are {suffix_of(files[0])} files, which do not keep ids "
            f"as they were written; "
            "save them as PNG"
        )
    return {path: f"{mask_folder}/{mask}" for path, mask in pairs.items()}


def _lacking(root: Path, name: str, lacking: list[str], number: int) -> str:
    folder, slash, below = min(lacking).partition("images/")
    first = f"{folder}masks/{without_suffix(below)}.png" if slash else min(lacking)
    return (
        f"{name}: {len(lacking)} of {number} images in {root} have no mask (first: {first}); use "
        f"those that have with "
        "data.allow_partial=true"
    )


def read_part_names(root: Path) -> list[str]:
    """Names of ids 1..P from classes.json or parts.txt; [] where there is neither.

    Raises:
        DataError: damaged list, ids that are not 1..P without a gap, more than 254 parts.
    """
    if (root / "parts.txt").is_file():
        return _checked(read_lines(root / "parts.txt"), root / "parts.txt")
    file = root / "classes.json"
    if not file.is_file():
        return []
    try:
        names = {int(key): str(name) for key, name in json.loads(read_text(file)[0]).items()}
    except DataError:
        raise
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{file}: expected {{"0": "background", "1": "first part", ...}} ({error})'
        ) from error
    names.pop(0, None)
    if IGNORE in names and len(names) <= MAX_PARTS:
        names.pop(IGNORE)  # "255": "ignore"
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DataError(
            f"{file}: ids are {sorted(names)[:8]}; parts count from 1 without a gap, 0 is "
            f"background"
        )
    return _checked([names[k] for k in sorted(names)], file)


def _checked(names: list[str], file: Path) -> list[str]:
    if len(names) > MAX_PARTS:
        raise DataError(
            f"{file} names {len(names)} parts; at most {MAX_PARTS} are possible (ids are 8 bits, "
            f"255 is not judged)"
        )
    return names


def _label(root: Path, images: list[str], remarks: list[str]) -> tuple[list[int], list[str]]:
    """Labels from labels.csv, else from class folders, else none."""
    file = root / "labels.csv"
    if file.is_file():
        names, said = read_labels(file, images)
        remarks += said
    else:
        names = _class_folders(images, remarks)
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    return [number[name] for name in names] or [-1] * len(images), classes


def _class_folders(images: list[str], remarks: list[str]) -> list[str]:
    folders = [path.split("/", 1)[0] if "/" in path else "" for path in images]
    if len(set(folders)) > 1 and "" in folders:
        remarks.append(
            f"{counted(folders.count(''), 'image')} beside the folders in images/, so these are "
            f"no classes"
        )
    return folders if len(set(folders)) > 1 and "" not in folders else []
