"""Parts, principal components and attention of an image or a folder, as one picture.

Shapes: N images, H x W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ssl_parts.data.decode import decode_image
from ssl_parts.data.geometry import fit_image
from ssl_parts.data.order import evenly_spaced
from ssl_parts.data.sets.tree import SUFFIXES, list_images
from ssl_parts.encoders import Encoder, build_encoder, open_encoder
from ssl_parts.encoders.pictures import (
    as_colours,
    attention_map,
    enlarged,
    heat,
    last_map,
    principal_scores,
)
from ssl_parts.errors import ConfigError
from ssl_parts.parts import ComponentConfig, PerImageConfig, VotesConfig, discover_parts
from ssl_parts.parts.dense.features import TensorImages
from ssl_parts.parts.model import PartModel, load_part_model
from ssl_parts.parts.palette import contact_sheet, overlay
from ssl_parts.recipes.schemas import ShowConfig

COLUMNS = ("image", "parts", "principal components", "attention")
ENOUGH = 16  # images from which a foreground can be learned; fewer are cut one by one
HEAD = 22  # pixels of the line with the columns' names

Parts = tuple[Tensor, int, int | None]  # ids uint8 (N, S, S), number of ids, the background's id


def show(config: ShowConfig) -> Path:
    """Draw and write the picture: a row an image, columns as in COLUMNS; returns its path.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: what was given cannot be shown.
    """
    config.check()
    paths = image_paths(Path(str(config.image)), config.limit)
    encoder, model = encoder_of(config), part_model_of(config)
    size = config.size or (model.image_size if model else 224)
    images_NCHW = torch.stack([fit_image(decode_image(path), size, config.fit) for path in paths])
    found = (
        parts_of(model, images_NCHW)
        if model and config.k is None
        else new_parts(config, encoder, images_NCHW, paths)
    )
    tiles = draw(encoder, images_NCHW, found, config.side)
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _with_head(tiles, config.side).save(out)
    return out


def draw(encoder: Encoder, images_NCHW: Tensor, parts: Parts, side: int) -> list[Tensor]:
    """Tiles (uint8 (3, side, side)), row by row: image, parts, components of all images together,
    attention.
    """
    ids_Nhw, k, background = parts
    large = enlarged(images_NCHW, side)
    drawn = torch.stack(
        [overlay(image, ids, k, background) for image, ids in zip(large, ids_Nhw, strict=True)]
    )
    components = as_colours(principal_scores(last_map(encoder, images_NCHW)), side)
    attention = heat(attention_map(encoder, images_NCHW), large)
    return [tile for row in zip(large, drawn, components, attention, strict=True) for tile in row]


def image_paths(path: Path, limit: int) -> list[Path]:
    """The file, or at most `limit` images of the folder, evenly spaced in sorted order.

    Raises:
        ConfigError: a folder without images.
    """
    if path.is_file():
        return [path]
    found = [path / name for name in list_images(path)]
    if not found:
        raise ConfigError(
            f"image={path} holds no image (looked for {', '.join(SUFFIXES)} at any depth)"
        )
    return [found[i] for i in evenly_spaced(len(found), limit)]


def encoder_of(config: ShowConfig) -> Encoder:
    """The encoder of a run or export, or timm's of that name."""
    source = str(config.encoder)
    if Path(source).exists():
        if config.weights is not None:
            raise ConfigError(
                f"weights={config.weights} goes with a timm name; encoder={source} has its own"
            )
        return open_encoder(source).eval()
    torch.manual_seed(0)
    return build_encoder(source, config.weights).eval()


def part_model_of(config: ShowConfig) -> PartModel | None:
    """What the run or export given knows of parts; None for one that has none, and for timm's
    encoders.
    """
    given = Path(str(config.encoder))
    folders = [
        folder
        for folder in (given, given / "export")
        if (folder / "parts" / "part_model.json").is_file()
    ]
    return load_part_model(folders[0]) if folders else None


def parts_of(model: PartModel, images_NCHW: Tensor) -> Parts:
    """The run's own parts."""
    return model.ids(enlarged(images_NCHW, model.image_size)), model.k, model.background


def new_parts(
    config: ShowConfig, encoder: Encoder, images_NCHW: Tensor, paths: Sequence[Path]
) -> Parts:
    """k parts found in each of these images now."""
    foreground = VotesConfig() if len(paths) >= ENOUGH else ComponentConfig()
    grid = 56 if images_NCHW.shape[-1] >= 112 else 16
    chosen = PerImageConfig(k=config.k or 6, size=grid, foreground=foreground)
    images = TensorImages(images_NCHW, [str(path) for path in paths])
    store = discover_parts(encoder, images, chosen)
    return store.batch(range(len(store))), store.k, store.background


def _with_head(tiles: list[Tensor], side: int) -> Image.Image:
    """The tiles below the names of their columns."""
    gap = 4
    sheet = Image.fromarray(contact_sheet(tiles, len(COLUMNS), gap).permute(1, 2, 0).numpy())
    page = Image.new("RGB", (sheet.width, sheet.height + HEAD), "white")
    page.paste(sheet, (0, HEAD))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(min(14, side // 10))
    for i, name in enumerate(COLUMNS):
        pen.text((i * (side + gap) + 2, 3), name, fill="black", font=font)
    return page
