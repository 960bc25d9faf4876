"""Where the annotation files of a COCO data set lie, and which image files their names mean."""

from pathlib import Path

from ssl_parts.data.sets.archive import inside, list_folder
from ssl_parts.data.sets.coco_file import CocoFile
from ssl_parts.data.sets.name_match import NameMatch, plain_path
from ssl_parts.data.sets.remarks import counted
from ssl_parts.data.sets.split_names import split_of
from ssl_parts.data.sets.tree import list_images
from ssl_parts.errors import DataError

SPELLINGS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
FILES = (
    "annotations/{0}/{0}.json",
    "annotations/{0}.json",
    "annotations/instances_{0}.json",
    "{0}.json",
    "{0}/_annotations.coco.json",
)
FOLDERS = ("images/{0}", "{0}", "images", "")
LOOKED_AT = 200  # names that decide which folder holds the images


def find_files(name: str, root: Path) -> dict[str, Path]:
    """Split → its annotation file.

    Raises:
        DataError: none for train, or several that could be meant.
    """
    found: dict[str, Path] = {}
    for split, words in SPELLINGS.items():
        places = [root / pattern.format(word) for word in words for pattern in FILES]
        file = next((place for place in places if place.is_file()), None) or _by_name(root, split)
        if file is not None:
            found[split] = file
    if not found and (root / "annotations.json").is_file():
        found["train"] = root / "annotations.json"
    if "train" not in found:
        looked = ", ".join([*(pattern.format("train") for pattern in FILES), "annotations.json"])
        raise DataError(
            f"{name}: no part annotations for train in {root} (looked for {looked}); it holds "
            f"{list_folder(root)}"
        )
    return found


def _by_name(root: Path, split: str) -> Path | None:
    """A JSON file whose name speaks of the split, as instances_train2017.json does."""
    folders = [folder for folder in (root / "annotations", root) if folder.is_dir()]
    files = [f for folder in folders for f in sorted(folder.glob("*.json"))]
    named = [f for f in files if (said := split_of(f.stem)) is not None and said.split == split]
    preferred = [f for f in named if "instances" in f.stem.lower()] or named
    if len(preferred) > 1:
        raise DataError(
            f"{preferred[0]} and {preferred[1].name} could both be the annotations of split "
            f"{split}; keep one of them"
        )
    return preferred[0] if preferred else None


def resolve_names(root: Path, split: str, content: CocoFile, remarks: list[str]) -> dict[str, str]:
    """File name in the list → path below root; where it is not there, where it should be.

    Raises:
        DataError: a name that leads out of root.
    """
    names = [image.name for image in content.images]
    folder = _image_folder(root, split, content, names)
    paths = {name: f"{folder}{name}" for name in names}
    absent = [name for name in names if not _is_file(root, paths[name])]
    if not absent:
        return paths
    there = NameMatch(list_images(root / folder)) if (root / folder).is_dir() else NameMatch([])
    respelled = 0
    for name in absent:
        meant = there.find(plain_path(name))
        paths[name] = f"{folder}{plain_path(name) if meant is None else meant}"
        respelled += meant is not None
    if respelled:
        remarks.append(
            f"{content.file.name}: {counted(respelled, 'name')} of images with Windows' "
            f"backslashes or other "
            f"capitals than the files (first: {absent[0]})"
        )
    return paths


def _is_file(root: Path, path: str) -> bool:
    return _there(inside(root, path, "the annotation file"))


def _image_folder(root: Path, split: str, content: CocoFile, names: list[str]) -> str:
    """The folder, relative to root and with a slash, that holds most of the first images."""
    stem = content.file.stem.rpartition("_")[2]
    words = dict.fromkeys([*SPELLINGS[split], stem])
    places = [pattern.format(word) for pattern in FOLDERS for word in words]
    places = [p for p in dict.fromkeys(places) if (root / p).is_dir()]
    own = content.file.parent.relative_to(root).as_posix()
    places += [] if own in (*places, ".") else [own]
    names = [plain_path(name) for name in names[:LOOKED_AT]]
    plain = [name for name in names if not name.startswith("/") and ".." not in name.split("/")]
    hits = {place: sum(_there(root / place / name) for name in plain) for place in places}
    best = max(places, key=lambda place: hits[place])
    return f"{best}/" if best else ""


def _there(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False
