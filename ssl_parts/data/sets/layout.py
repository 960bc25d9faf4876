"""What the folders of a tree of images stand for: splits, classes, or nothing. Only names are
read.

    CLASS/...                    one folder per class; or images without classes
    train/CLASS/... test/...     splits, in any spelling of `split_names`; a flat one is unlabelled
    CLASS/train/... CLASS/test/  splits within each class
    ARCHIVE/...                  one folder around all of it, also within a split (train/train/...)

Whatever is taken for something else than what its name says, or is left out, is said. What could
be two things is refused, because test images in training are not noticed later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssl_parts.data.sets.remarks import counted, first_of
from ssl_parts.data.sets.split_names import FILLERS, SplitName, split_of
from ssl_parts.errors import DataError

FEW = 10  # of this many images one may lie beside the class folders and is left out
PICTURES = ("image", "images", "img", "imgs", "jpegimages")
MASKS = ("mask", "masks", "annotations", "segmentations", "ground_truth", "groundtruth", "labels")
TRAIN = "train"
ORDER = (TRAIN, "val", "test")

Entry = tuple[int, tuple[str, ...]]  # row of an image, its folders and its name below some place
Folders = dict[str, list[Entry]]


@dataclass
class Layout:
    """What each image is: its split by row (rows that are not in it are left out), and its class.

    sources: where the images of each split are. remarks: what was left out or needed a judgement.
    """

    splits: dict[int, str] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def structured(self) -> bool:
        """Whether there are classes, or splits beside train."""
        return bool(self.classes) or set(self.splits.values()) - {TRAIN} != set()

    @property
    def split_names(self) -> list[str]:
        return [s for s in ORDER if s in self.splits.values()]

    @property
    def account(self) -> list[str]:
        """One sentence per split: its images and classes, and where they are."""
        return [self._account_of(split) for split in self.split_names]

    def _account_of(self, split: str) -> str:
        rows = [row for row, name in self.splits.items() if name == split]
        names = {self.classes[row] for row in rows if row in self.classes}
        number = counted(len(names), "class", "classes")
        classes = f"{number} ({first_of(names)})" if names else "no classes"
        return f"split {split}: {counted(len(rows), 'image')} in {self.sources[split]}, {classes}"


def read_layout(paths: Sequence[str], labelled: bool = True) -> Layout:
    """The layout of these images.

    Args:
        paths: relative, with forward slashes.
        labelled: false reads splits alone.

    Raises:
        DataError: a layout that could mean two things, with the folders and the way out.
    """
    entries = [(i, tuple(path.split("/"))) for i, path in enumerate(paths)]
    found = _look(entries, "", labelled)
    odd = [
        paths[row] for row, split in found.splits.items() if split == TRAIN and _held(paths[row])
    ]
    if odd:
        images = counted(len(odd), "training image lies", "training images lie")
        found.remarks.append(f"{images} in folders named test or val (first: {min(odd)})")
    masks = sorted(name for name in set(found.classes.values()) if name.lower() in MASKS)
    if masks:
        found.remarks.append(
            f"{first_of(f'{name}/' for name in masks)} taken for a class of images"
        )
    return found


def _held(path: str) -> bool:
    """Whether a folder of this image is named after val or test."""
    said = [split_of(folder) for folder in path.split("/")[:-1]]
    return any(s is not None and s.rest == "" and s.split != TRAIN for s in said)


def _look(entries: list[Entry], place: str, labelled: bool) -> Layout:
    loose, folders = group(entries)
    splits = choose_splits(folders, len(loose), place)
    if splits:
        return _with_splits(loose, folders, splits, place, labelled)
    if len(folders) == 1 and _few(len(loose), len(entries)):
        name, inner = next(iter(folders.items()))
        found = _look(inner, f"{place}{name}/", labelled)
        if not found.structured:
            return _all_train(entries, place)
        found.remarks.insert(0, f"everything lies in {place}{name}/, which is taken for data.root")
        return _leave_out(found, loose, place, "beside it")
    if (inside := _splits_of_classes(folders, place)) is not None:
        return _with_inner_splits(loose, folders, inside, place, labelled)
    found = _all_train(entries, place)
    if labelled:
        _add_classes(found, {TRAIN: entries}, {TRAIN: place})
    return found


def group(entries: list[Entry]) -> tuple[list[Entry], Folders]:
    """(images that lie here, folder → what is below it)."""
    folders: Folders = {}
    for row, parts in entries:
        if len(parts) > 1:
            folders.setdefault(parts[0], []).append((row, parts[1:]))
    return [entry for entry in entries if len(entry[1]) == 1], folders


def choose_splits(folders: Folders, loose: int, place: str) -> dict[str, str]:
    """Split → its folder; {} where the folders are something else.

    Raises:
        DataError: two folders for a split; val or test without train; a folder train among others
            that look like it.
    """
    named = {top: said for top in folders if (said := split_of(top)) is not None}
    chosen: dict[str, list[str]] = {}
    for top, said in named.items():
        if said.rest in _accepted(named):
            chosen.setdefault(said.split, []).append(top)
    chosen = {split: _pure(tops) for split, tops in chosen.items()}
    for split, tops in chosen.items():
        if len(tops) > 1:
            raise DataError(
                f"{place}{tops[0]}/ and {place}{tops[1]}/ both look like split {split}; "
                "keep one of them in data.root, or put their images together"
            )
    splits = {split: chosen[split][0] for split in ORDER if split in chosen}
    others = [top for top in folders if top not in splits.values()]
    _refuse_doubt(splits, folders, others, loose, place)
    return splits


def _accepted(named: dict[str, SplitName]) -> set[str]:
    """The other words that names of splits may have here: none, or those that train and a second
    split share (seg_train and seg_test). train_station among classes is no split."""
    by_rest: dict[str, set[str]] = {}
    for said in named.values():
        by_rest.setdefault(said.rest, set()).add(said.split)
    whole = {"", *(["trainval"] if TRAIN not in by_rest.get("", ()) else [])}
    if any(TRAIN in by_rest.get(rest, ()) for rest in whole):
        return whole
    pairs = {rest for rest, splits in by_rest.items() if TRAIN in splits and len(splits) > 1}
    only = {rest for rest, splits in by_rest.items() if TRAIN in splits}
    beside = only if len(only) == 1 and by_rest.get("") else set()
    return whole | (pairs or beside)


def _pure(tops: list[str]) -> list[str]:
    """Of train and trainval the first."""
    plain = [top for top in tops if "trainval" not in _rest_of(top)]
    return sorted(plain or tops)


def _rest_of(top: str) -> str:
    said = split_of(top)
    return said.rest if said else ""


def _refuse_doubt(
    splits: dict[str, str], folders: Folders, others: list[str], loose: int, place: str
) -> None:
    if splits and TRAIN not in splits:
        split, top = next(iter(splits.items()))
        beside = f" beside {first_of(f'{place}{f}/' for f in others)}" if others else ""
        raise DataError(
            f"{place}{top}/{beside} looks like split {split}, but nothing is split train; "
            "name the folder of the training images train; or, if all of these are training images "
            f"or classes, give {top}/ another name or set data.root to it"
        )
    if set(splits) != {TRAIN} or not (others or loose):
        return
    top = splits[TRAIN]
    deep = _is_deep(folders[top])
    total = sum(map(len, folders.values()))
    if not deep and loose * FEW < total and not others:
        return
    if not deep or any(_is_deep(folders[other]) for other in others) or loose * FEW >= total:
        there = [f"{place}{other}/" for other in others] + ["images in no folder"] * bool(loose)
        raise DataError(
            f"{place}{top}/ beside {first_of(there)} may be the training split or a class; "
            f"to train on it alone set data.root to this folder; if it is a class, give it "
            f"another name"
        )


def _is_deep(entries: list[Entry]) -> bool:
    """Whether most of the images are in folders of their own below it."""
    return 2 * sum(len(parts) > 1 for _, parts in entries) > len(entries)


def _with_splits(
    loose: list[Entry], folders: Folders, splits: dict[str, str], place: str, labelled: bool
) -> Layout:
    found = Layout()
    for split, top in splits.items():
        found.splits |= {row: split for row, _ in folders[top]}
        if _rest_of(top) not in ("", "trainval"):
            found.remarks.append(f"{place}{top}/ is taken for split {split}")
    named = ", ".join(f"{place}{top}/" for top in splits.values())
    for other in sorted(set(folders).difference(splits.values())):
        images = counted(len(folders[other]), "image")
        found.remarks.append(f"{place}{other}/ ({images}) is no split beside {named}: left out")
    _leave_out(found, loose, place, f"beside {named}")
    found.sources = {split: f"{place}{top}/" for split, top in splits.items()}
    if labelled:
        parts = {split: folders[splits[split]] for split in found.split_names}
        _add_classes(found, parts, found.sources)
    return found


def _splits_of_classes(folders: Folders, place: str) -> dict[str, dict[str, str]] | None:
    """Class → its splits, where each class folder holds split folders; None where none does."""
    inside: dict[str, dict[str, str]] = {}
    for top, entries in folders.items():
        named = {f: s.split for f in group(entries)[1] if (s := split_of(f)) and s.rest == ""}
        if named:
            inside[top] = named
    if not inside:
        return None
    without = sorted(set(folders).difference(inside))
    lacking = sorted(top for top, named in inside.items() if TRAIN not in named.values())
    if without or lacking:
        top, named = next(iter(inside.items()))
        odd = f"{place}{(without or lacking)[0]}/"
        raise DataError(
            f"{place}{top}/ holds {first_of(f'{f}/' for f in named)}, which look like "
            f"splits, but {odd} has {'none' if without else 'no train/'}; give all classes a "
            "train/, or give these folders other names"
        )
    return inside


def _with_inner_splits(
    loose: list[Entry],
    folders: Folders,
    inside: dict[str, dict[str, str]],
    place: str,
    labelled: bool,
) -> Layout:
    found, out = Layout(), 0
    for top, named in inside.items():
        for row, parts in folders[top]:
            if len(parts) > 1 and parts[0] in named:
                found.splits[row] = named[parts[0]]
                found.classes |= {row: top} if labelled else {}
            else:
                out += 1
    folders_of: dict[str, set[str]] = {}
    for named in inside.values():
        for folder, split in named.items():
            folders_of.setdefault(split, set()).add(f"{place}CLASS/{folder}/")
    found.sources = {split: first_of(names) for split, names in folders_of.items()}
    seen = "; ".join(f"{names} is split {split}" for split, names in found.sources.items())
    found.remarks.append(f"each class holds its splits: {seen}")
    if out:
        images = counted(out, "image")
        found.remarks.append(f"{images} in classes, but in none of their split folders: left out")
    return _leave_out(found, loose, place, "beside the classes")


def _all_train(entries: list[Entry], place: str) -> Layout:
    rows = dict.fromkeys((row for row, _ in entries), TRAIN)
    return Layout(rows, sources={TRAIN: place or "data.root"})


def _leave_out(found: Layout, loose: list[Entry], place: str, where: str) -> Layout:
    if loose:
        for row, _ in loose:
            found.splits.pop(row, None)
        names = first_of(f"{place}{parts[0]}" for _, parts in loose)
        found.remarks.append(f"{counted(len(loose), 'image')} {where} left out: {names}")
    return found


def _add_classes(found: Layout, parts: dict[str, list[Entry]], places: dict[str, str]) -> None:
    """Classes by folder; images that lie beside class folders are taken out of `found`."""
    grouped = {split: group(entries) for split, entries in _unwrap(parts, places).items()}
    classes = {split: set(folders) for split, (_, folders) in grouped.items()}
    known = set().union(*classes.values())
    _refuse_masks(known, places)
    if len(known) < 2:
        return
    if not classes[TRAIN]:
        others = first_of(split for split in classes if classes[split])
        found.remarks.append(
            f"{places[TRAIN]} has no class folders: those of split {others} are not used"
        )
        return
    for split, (loose, folders) in grouped.items():
        _add_split(found, split, loose, folders, classes[TRAIN])


def _add_split(
    found: Layout, split: str, loose: list[Entry], folders: Folders, trained: set[str]
) -> None:
    place, total = found.sources[split], sum(map(len, folders.values()))
    strange = split != TRAIN and len(folders) == 1 and not trained & set(folders)
    if not folders or strange:
        has = f"only {place}{next(iter(folders))}/" if strange else "no class folders"
        images = counted(total + len(loose), "image")
        found.remarks.append(f"split {split} ({place}) has {has}: {images} without a label")
        return
    if not _few(len(loose), total + len(loose)):
        raise DataError(
            f"{counted(len(loose), 'image')} in {place} beside {counted(total, 'image')} "
            f"in {counted(len(folders), 'folder')} ({first_of(f'{f}/' for f in folders)}): move "
            "them into a class, away, or use all images without classes with data.labelled=false"
        )
    below = "" if place == "data.root" else place
    _leave_out(found, loose, below, "beside the class folders")
    found.classes |= {row: name for name, entries in folders.items() for row, _ in entries}


def _few(loose: int, total: int) -> bool:
    return loose * FEW < max(total, 1)


def _unwrap(parts: dict[str, list[Entry]], places: dict[str, str]) -> dict[str, list[Entry]]:
    """Without the folders that hold all of a split (train/train/..., test/images/...), and without
    one that all splits have (train/birds/..., test/birds/...)."""
    opened = {}
    for split, entries in parts.items():
        opened[split] = _open(entries, places[split].rstrip("/").rpartition("/")[2])
    grouped = {split: group(entries) for split, entries in opened.items()}
    with_folders = {split for split, (_, folders) in grouped.items() if folders}
    single = all(len(grouped[s][1]) == 1 and not grouped[s][0] for s in with_folders)
    names = {name for s in with_folders for name in grouped[s][1]}
    deep = all(any(len(p) > 2 for _, p in opened[s]) for s in with_folders)
    if not (single and len(names) == 1 and deep):
        return opened
    inner = {split: next(iter(grouped[split][1].values())) for split in with_folders}
    name = names.pop()
    return opened | _unwrap(inner, {split: f"{places[split]}{name}/" for split in inner})


def _open(entries: list[Entry], above: str) -> list[Entry]:
    loose, folders = group(entries)
    if loose or len(folders) != 1:
        return entries
    name, inner = next(iter(folders.items()))
    said = split_of(name)
    plain = name == above or name.lower() in FILLERS or (said is not None and said.rest == "")
    return _open(inner, name) if plain else entries


def _refuse_masks(names: set[str], places: dict[str, str]) -> None:
    low = {name.lower() for name in names}
    if len(low) <= 3 and low & set(PICTURES) and low & set(MASKS):
        raise DataError(
            f"{places[TRAIN] or 'data.root'} holds {first_of(f'{n}/' for n in names)}, "
            "which are no classes: use data=part_folder for images with masks, or set data.root to "
            "the folder of the images"
        )
