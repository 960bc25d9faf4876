"""A COCO annotation file, read with care: every row is checked once, when the file is opened.

Whatever does not belong there is one sentence with the file and the row; what can be left out
without harm (rows without a region, polygons without area, a row written twice) is counted.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_parts.data.records import MAX_PARTS
from ssl_parts.data.sets.coco_masks import Outline, read_outline
from ssl_parts.data.sets.remarks import counted
from ssl_parts.errors import DataError

EMPTY = "annotation without a region is left out", "annotations without a region are left out"
FLAT = (
    "polygon of less than three corners is left out",
    "polygons of less than three corners are left out",
)
TWICE = "image is listed twice and read once", "images are listed twice and read once"


@dataclass(frozen=True)
class Region:
    """A part of an image. id: of the annotation, for messages."""

    id: str
    category: int
    outline: Outline


@dataclass
class CocoImage:
    """A row of images; size: (height, width) as the file says, None where it does not."""

    name: str
    size: tuple[int, int] | None
    regions: list[Region] = field(default_factory=list)


@dataclass
class CocoFile:
    """What a file lists. annotated: false where it has no region at all, as test files."""

    file: Path
    images: list[CocoImage]
    categories: dict[int, str]
    annotated: bool
    remarks: list[str]


def read_coco(file: Path) -> CocoFile:
    """Read and check a file.

    Raises:
        DataError: no JSON, no COCO, a damaged row, more than 254 categories, one id for two
            things.
    """
    content = _load(file)
    counts: Counter = Counter()
    categories = _categories(file, _rows(content, "categories", file))
    by_id = _images(file, _rows(content, "images", file), counts)
    for row in _rows(content, "annotations", file) if "annotations" in content else []:
        _add_region(file, row, by_id, categories, counts)
    annotated = any(image.regions for image in by_id.values())
    images = list({id(image): image for image in by_id.values()}.values())
    _refuse_shares(file, images)
    remarks = [
        f"{file.name}: {counted(counts[what], *what)}"
        for what in (EMPTY, FLAT, TWICE)
        if counts[what]
    ]
    return CocoFile(file, images, categories, annotated, remarks)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise _no_coco(file, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise _no_coco(file, f"it holds a {type(content).__name__}")
    return content


def _no_coco(file: Path, why: str) -> DataError:
    return DataError(f"{file} is no COCO annotation file ({why})")


def _rows(content: dict[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _no_coco(file, f"it has no list of {key}")
    return rows


def _field(row: dict[str, Any], key: str, kinds: tuple[type, ...], file: Path, what: str) -> Any:
    value = row.get(key)
    if type(value) not in kinds:
        lacks = "lacks" if key not in row else f"has {str(value)[:40]!r} as"
        raise _no_coco(file, f"{what} {lacks} {key}")
    return value


def _whole(row: dict[str, Any], key: str, file: Path, what: str) -> int:
    """A whole number; "7" and 7.0 are read as 7."""
    value = _field(row, key, (int, float, str), file, what)
    try:
        number = int(value)
    except (ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value):
        raise _no_coco(file, f"{what} has {value!r} as {key}")
    return number


def _categories(file: Path, rows: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for place, row in enumerate(rows):
        key = _whole(row, "id", file, f"category {place}")
        name = str(_field(row, "name", (str, int), file, f"category {key}")).strip()
        if found.setdefault(key, name) != name:
            raise _no_coco(file, f"category {key} is both {found[key]!r} and {name!r}")
    if len(found) > MAX_PARTS:
        raise DataError(
            f"{file} has {len(found)} categories; at most {MAX_PARTS} parts are possible (ids are "
            f"8 bits)"
        )
    return found


def _images(file: Path, rows: list[dict[str, Any]], counts: Counter) -> dict[str, CocoImage]:
    """Image by its id; a file that is listed under several ids is one image."""
    by_id: dict[str, CocoImage] = {}
    by_name: dict[str, CocoImage] = {}
    for place, row in enumerate(rows):
        key = str(_field(row, "id", (int, str), file, f"image {place}"))
        name = _field(row, "file_name", (str,), file, f"image {key}")
        if key in by_id and by_id[key].name != name:
            raise _no_coco(file, f"id {key} is both image {by_id[key].name} and {name}")
        counts[TWICE] += name in by_name
        by_id[key] = by_name.setdefault(name, CocoImage(name, _size(row)))
    return by_id


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    height, width = (_side(row.get(name)) for name in ("height", "width"))
    return None if height is None or width is None else (height, width)


def _side(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 1e6:
        return round(value)
    return None


def _add_region(
    file: Path,
    row: dict[str, Any],
    by_id: dict[str, CocoImage],
    categories: dict[int, str],
    counts: Counter,
) -> None:
    key = str(row.get("id"))
    what = f"annotation {key}"
    image = by_id.get(str(_field(row, "image_id", (int, str), file, what)))
    category = _whole(row, "category_id", file, what)
    if image is None or category not in categories:
        lacking = f"image {row['image_id']}" if image is None else f"category {category}"
        raise DataError(f"{file}: {what} belongs to no image or part of it: there is no {lacking}")
    outline = read_outline(row.get("segmentation"), f"{file}, {what} of {image.name}")
    counts[FLAT] += outline.flat
    counts[EMPTY] += outline.is_empty and not outline.flat
    if not outline.is_empty:
        image.regions.append(Region(key, category, outline))


def _refuse_shares(file: Path, images: list[CocoImage]) -> None:
    """Corners between 0 and 1 are shares of the sides, as YOLO has them, and would all be one
    pixel."""
    corners = [p for image in images for region in image.regions for p in region.outline.polygons]
    if corners and max(float(np.abs(polygon).max()) for polygon in corners) <= 1:
        raise DataError(
            f"{file}: all corners of polygons lie between 0 and 1, as shares of the image; COCO "
            f"has pixels"
        )
