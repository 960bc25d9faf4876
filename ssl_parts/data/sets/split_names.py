"""Which split a folder or a file is named after: train, Training Set, seg_train, val2017,
imagenet1k-validation-00, trainingset.
"""

import re
from dataclasses import dataclass

STEMS = {
    "train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
}  # fmt: skip
# words that say nothing beside the split: train_images, Test Set, split-train
FILLERS = (
    "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "jpg", "jpeg", "jpegs",
    "png", "photo", "photos", "picture", "pictures", "folder", "split", "file", "files", "shard",
    "shards",
)  # fmt: skip
WORD = re.compile(rf"({'|'.join(sorted(STEMS, key=len, reverse=True))})({'|'.join(FILLERS)})?\d*")


@dataclass(frozen=True)
class SplitName:
    """The split that a name speaks of; `rest`: its other words, "" for train, test1 or
    val_images."""

    split: str
    rest: str


def split_of(name: str) -> SplitName | None:
    """What a name (without suffix) says; None for one that names no split, or several.

    "trainval" and "train_val" are split train, with the rest "trainval".
    """
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    found = {word: match[1] for word in words if (match := WORD.fullmatch(word))}
    splits = {STEMS[stem] for stem in found.values()}
    both = splits == {"train", "val"} or "trainval" in found.values()
    if len(splits) != 1 and not both:
        return None
    rest = [w for w in words if w not in found and w not in FILLERS and not w.isdigit()]
    split = "train" if both else splits.pop()
    return SplitName(split, "-".join([*rest, "trainval"] if both else rest))
