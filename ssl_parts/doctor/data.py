"""A look at a data set before any time is spent on it: counts against the published ones, what is
missing and where it was looked for, images that do not decode, and a contact sheet with boxes,
keypoints and parts.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from ssl_parts.data import DataConfig, ImageBank, PartsDataset, Sample, evenly_spaced, open_dataset
from ssl_parts.data.sets.archive import Census
from ssl_parts.errors import ConfigError, DataError
from ssl_parts.parts.palette import colours, contact_sheet, overlay

SHOWN = 10  # names in a list
SPLITS = ("train", "val", "test")


@dataclass
class SplitReport:
    """What is in one split."""

    split: str
    images: int
    published: int | None
    classes: int
    smallest: int  # images of the class with the fewest
    largest: int
    bad: list[str] = field(default_factory=list)  # messages


@dataclass
class DataReport:
    """What `examine` found; `str` is what is printed."""

    name: str
    root: str
    decoded: bool
    splits: list[SplitReport]
    part_names: list[str]
    keypoint_names: list[str]
    missing: list[str]
    notes: list[str]

    @property
    def sound(self) -> bool:
        """Nothing missing, nothing that does not decode."""
        return not self.missing and not self.notes and not any(split.bad for split in self.splits)

    def __str__(self) -> str:
        lines = [f"{self.name} in {self.root}"]
        for s in self.splits:
            expected = "" if s.published is None else f" of {s.published:,} published"
            classes = (
                f", {s.classes} classes of {s.smallest} to {s.largest} images"
                if s.classes
                else ", no classes"
            )
            lines.append(f"  {s.split:10}{s.images:,} images{expected}{classes}")
        for what, names in (("parts", self.part_names), ("keypoints", self.keypoint_names)):
            lines.append(f"  {what:10}{len(names)}{': ' if names else ''}{', '.join(names)}")
        lines += [f"  note      {note}" for note in self.notes]
        if self.missing:
            lines.append(f"  missing   {len(self.missing):,} listed files:")
            lines += [f"    {path}" for path in self.missing[:SHOWN]] + ["    ..."] * (
                len(self.missing) > SHOWN
            )
        bad = [message for split in self.splits for message in split.bad]
        if bad:
            lines.append(f"  damaged   {len(bad):,} images:")
            lines += [f"    {message}" for message in bad[:SHOWN]] + ["    ..."] * (
                len(bad) > SHOWN
            )
        elif self.decoded:
            lines.append("  every image decodes")
        return "\n".join(lines)


def examine(
    config: DataConfig, decode: bool = False, sheet: Path | None = None, workers: int = 2
) -> DataReport:
    """Look at all splits of the configured set.

    Args:
        decode: decode every image and read its annotations; else they are only listed.
        sheet: where to write a picture of 24 images with their annotations.
        workers: decoding threads.

    Raises:
        ConfigError: the set is not configured.
        DataError: the set is not there, or so damaged that it cannot be listed.
    """
    notes: list[str] = []
    try:
        open_dataset(config)
    except DataError as error:  # say it, then go on with what is there
        if "allow_partial" not in str(error):
            raise
        notes.append(str(error))
        config = replace(config, allow_partial=True)
    sets = {split: data for split in SPLITS if (data := _open(config, split)) is not None}
    sets.setdefault(config.split, open_dataset(config))
    first = sets[config.split]
    census: Census | None = getattr(first, "census", None)
    reports = [_examine_split(data, split, decode, workers) for split, data in sets.items()]
    if sheet is not None:
        draw_sheet(first, config).save(sheet)
    return DataReport(
        name=config.name,
        root=str(census.root) if census else config.root or "no folder: it is drawn",
        decoded=decode,
        splits=reports,
        part_names=first.part_names,
        keypoint_names=first.keypoint_names,
        missing=census.missing if census else [],
        notes=notes,
    )


def _open(config: DataConfig, split: str) -> PartsDataset | None:
    """None for a split that the set does not have; a cut of train is not one of its own."""
    try:
        data = open_dataset(config, split)
        if split == "val" and config.name != "synthetic_birds":
            fit, train = open_dataset(config, "fit"), open_dataset(config, "train")
            return data if len(fit) == len(train) else None
        return data
    except ConfigError:
        return None


def _examine_split(data: PartsDataset, split: str, decode: bool, workers: int) -> SplitReport:
    counts = (
        np.bincount(data.labels[data.labels >= 0], minlength=len(data.classes))
        if len(data.classes)
        else [0]
    )
    census: Census | None = getattr(data, "census", None)
    published = census.published.splits.get(split) if census and census.published else None
    bad = _decode_all(data, split, workers) if decode else []
    return SplitReport(
        split, len(data), published, len(data.classes), int(min(counts)), int(max(counts)), bad
    )


def _decode_all(data: PartsDataset, split: str, workers: int) -> list[str]:
    def look(i: int) -> str | None:
        try:
            sample = data[i]
        except DataError as error:
            return str(error)
        size, mask = sample.image.shape[-2:], sample.part_mask
        if mask is not None and mask.shape[-2:] != size:
            return (
                f"{sample.path}: the part mask is {tuple(mask.shape[-2:])}, the image {tuple(size)}"
            )
        return None

    with ThreadPoolExecutor(workers) as pool:
        found = tqdm(
            pool.map(look, range(len(data))),
            total=len(data),
            desc=f"decode {split}",
            file=sys.stderr,
        )
        return [message for message in found if message is not None]


def draw_sheet(
    data: PartsDataset, config: DataConfig, number: int = 24, columns: int = 6
) -> Image.Image:
    """Images spread over the split, in the geometry that training sees, with what is known of
    them.
    """
    side = min(max(config.size, 128), 256)
    bank = ImageBank(data, side, config.fit, cache="none")
    chosen = evenly_spaced(len(data), number)
    pictures = []
    for i in chosen:
        try:
            pictures.append(draw_sample(bank.sample(int(i)), len(data.part_names)))
        except DataError:
            # grey: the report names it
            pictures.append(torch.full((3, side, side), 128, dtype=torch.uint8))
    return Image.fromarray(contact_sheet(pictures, columns).permute(1, 2, 0).numpy())


def draw_sample(sample: Sample, parts: int) -> Tensor:
    """uint8 (3, H, W): the image with its parts tinted, its box white and its visible keypoints
    dotted.
    """
    picture, mask = sample.image, sample.part_mask
    if mask is not None:
        ids = (
            mask
            if mask.ndim == 2
            else (mask * torch.arange(1, len(mask) + 1)[:, None, None]).amax(0)
        )
        picture = overlay(picture, ids, max(parts, int(ids.max())) + 1, background=0)
    canvas = Image.fromarray(picture.permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(canvas)
    if sample.box is not None:
        x0, y0, x1, y1 = sample.box
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline="white")
    if sample.keypoints is not None:
        for colour, (x, y, visible) in zip(
            colours(len(sample.keypoints)), sample.keypoints.tolist()
        ):
            if visible:
                draw.ellipse(
                    (x - 3, y - 3, x + 3, y + 3),
                    fill=tuple(int(c) for c in colour),
                    outline="black",
                )
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
