"""Pictures with their captions on disk: PNG files and one index.json that the report reads."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ssl_parts.files import write_atomic

INDEX = "index.json"


@dataclass
class Shots:
    """A section of the album. `table`: {"heads": [...], "rows": [[...]], "caption": ...} or None."""

    anchor: str
    title: str
    texts: list[str] = field(default_factory=list)
    pictures: list[dict[str, str]] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    table: dict[str, Any] | None = None


class Album:
    """Collects sections and writes index.json last, so that an index never names a file that is
    not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.sections = folder, []
        folder.mkdir(parents=True, exist_ok=True)

    def section(self, anchor: str, title: str, *texts: str) -> Shots:
        self.sections.append(Shots(anchor, title, list(texts)))
        return self.sections[-1]

    def add(self, section: Shots, picture_3HW: Tensor, title: str, text: str = "") -> None:
        """Write a picture (uint8) and put it into the section."""
        name = f"{section.anchor}_{len(section.pictures):02d}.png"
        Image.fromarray(picture_3HW.permute(1, 2, 0).contiguous().numpy()).save(self.folder / name)
        section.pictures.append({"file": name, "title": title, "text": text})

    def close(self) -> None:

        index = {"version": 1, "sections": [asdict(section) for section in self.sections]}
        write_atomic(self.folder / INDEX, json.dumps(index, indent=1))


def framed(tile_3SS: Tensor, colour: tuple[int, int, int], width: int = 4) -> Tensor:
    """The tile with a frame inside its border."""
    tile = tile_3SS.clone()
    edge = torch.ones(tile.shape[1:], dtype=torch.bool)
    edge[width:-width, width:-width] = False
    tile[:, edge] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return tile


def strip(tiles: list[Tensor], columns: int, gap: int = 3) -> Tensor:
    """Tiles of one size in rows of `columns` on a neutral ground that suits light and dark pages."""
    side = tiles[0].shape[-1]
    rows = -(-len(tiles) // columns)
    sheet = torch.full(
        (3, rows * (side + gap) - gap, columns * (side + gap) - gap), 128, dtype=torch.uint8
    )
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (side + gap), (i % columns) * (side + gap)
        sheet[:, y : y + side, x : x + side] = tile
    return sheet
