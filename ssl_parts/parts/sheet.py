"""A contact sheet of photographs beside their parts."""

from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from ssl_parts.data.order import evenly_spaced
from ssl_parts.parts.dense.features import Images
from ssl_parts.parts.palette import contact_sheet, overlay
from ssl_parts.parts.store import PartStore

COLUMNS, GAP = 6, 4


def draw_parts(
    store: PartStore, images: Images, path: Path, count: int = 24, side: int = 128
) -> None:
    """At most `count` evenly spaced images, the same ones every time, as tiles of `side` pixels."""
    chosen = evenly_spaced(len(store), count)
    tiles = []
    for image, ids in zip(images.images(chosen), store.batch(chosen), strict=True):
        large = resize(image, [side, side], antialias=True)
        tiles.append(torch.cat([large, overlay(large, ids, store.k, store.background)], dim=2))
    Image.fromarray(contact_sheet(tiles, COLUMNS, GAP).permute(1, 2, 0).numpy()).save(path)
