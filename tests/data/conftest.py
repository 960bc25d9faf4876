"""Tiny images and archives, generated: a smooth picture with one bright corner, so that turns and
flips show.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3): a colour ramp that differs by seed, white in its top left eighth."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x / width, y / height, (x + y) / (height + width)], -1) * 160
    image = (base + np.random.default_rng(seed).integers(0, 60, 3)).astype(np.uint8)
    image[: height // 8, : width // 8] = 255
    return image


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """write_image(path, height=40, width=60, seed=0, **save): a picture at path, its folders made."""

    def write(path: Path, height: int = 40, width: int = 60, seed: int = 0, **save) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(height, width, seed)).save(path, **({"quality": 95} | save))
        return path

    return write


@pytest.fixture
def write_text() -> Callable[[Path, str], None]:
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


@pytest.fixture
def folder() -> Iterator[Callable[[], Path]]:
    """folder(): a new empty one, as often as an example wants one; all are removed at the end."""
    made: list[Path] = []

    def new() -> Path:
        made.append(Path(tempfile.mkdtemp()))
        return made[-1]

    yield new
    for place in made:
        shutil.rmtree(place)


@pytest.fixture
def image_folder(tmp_path, write_image) -> Path:
    """12 images of different sizes in three class folders, one of them nested."""
    for i in range(12):
        folder = ["ant", "bee/deep", "cat"][i % 3]
        write_image(tmp_path / "set" / folder / f"{i:02d}.jpg", 40 + i, 60 + 2 * i, seed=i)
    return tmp_path / "set"
