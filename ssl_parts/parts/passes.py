"""Part-guided embeddings: an encoder's pooled features, averaged over passes over the image, its
found object and its found parts. Nothing is trained.

Ours; relatives are multi-crop testing (Krizhevsky et al. 2012) and crops of found objects and
parts (UPM, section 3.2 of its paper), here without labels.

Shapes: B images, D channels, SxS pixels, TxT of the detailed squares, M boxes per image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_parts.encoders import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.parts.crops import FoundBoxes, find_boxes, scatter_boxes, to_windows
from ssl_parts.parts.crops_config import CropsConfig
from ssl_parts.views.resample import crop_and_resize

# x0 y0 x1 y1 of the corners, as shares of the image
CORNERS = [[0, 0, 0.6, 0.6], [0.4, 0, 1, 0.6], [0, 0.4, 0.6, 1], [0.4, 0.4, 1, 1]]
SEED = 0  # of the places of random boxes


@dataclass(frozen=True)
class Squares:
    """The same images twice, uint8 on any device.

    Attributes:
        whole_B3SS: at the size that the encoder sees.
        detailed_B3TT: with more pixels, to cut crops from; None where no pass needs it.
        ids_Bhw: part ids; None where no pass needs them.
        background: the id of what is not object, where there is one.
        rows_B: numbers of the images, which place the random boxes; None: 0, 1, ...
    """

    whole_B3SS: Tensor
    detailed_B3TT: Tensor | None = None
    ids_Bhw: Tensor | None = None
    background: int | None = None
    rows_B: Tensor | None = None


@torch.no_grad()
def embed_passes(encoder: Encoder, squares: Squares, config: CropsConfig) -> Tensor:
    """Average pooled features over `config.passes`: float (B,D) on the encoder's device.

    Parts that an image lacks are left out of its mean.

    Example:
        >>> import torch
        >>> from ssl_parts.encoders import build_encoder
        >>> images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        >>> mirrored = CropsConfig(passes=["image", "flip"])
        >>> embed_passes(build_encoder("resnet18"), Squares(images), mirrored).shape
        torch.Size([2, 512])
    """
    device = next(encoder.parameters()).device
    total_BD, count_B1 = torch.zeros(()), torch.zeros(len(squares.whole_B3SS), 1, device=device)
    with evaluating(encoder):
        for pixels_B3SS, valid_B in iterate_passes(squares, config):
            fast_B3SS = pixels_B3SS.to(device).contiguous(memory_format=torch.channels_last)
            valid_B1 = valid_B.to(device)[:, None]
            total_BD = total_BD.to(device) + encoder(fast_B3SS).pooled.float() * valid_B1
            count_B1 += valid_B1
    return total_BD / count_B1


def iterate_passes(squares: Squares, config: CropsConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images of each pass, float (B,3,...) in [0, 1], and which of them exist (B,)."""
    everywhere_B = torch.ones(len(squares.whole_B3SS), dtype=torch.bool)
    for name in ("image", "flip", "large", "large_flip"):
        if name in config.passes:
            pixels = squares.detailed_B3TT if name.startswith("large") else squares.whole_B3SS
            assert pixels is not None
            pixels = pixels.float() / 255
            yield (pixels.flip(3) if name.endswith("flip") else pixels), everywhere_B
    for found in choose_boxes(squares, config):
        yield from cut_boxes(squares, found)


def cut_boxes(squares: Squares, found: FoundBoxes) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops out of the detailed squares, one box of every image after the other."""
    detailed_B3TT, size = squares.detailed_B3TT, squares.whole_B3SS.shape[-1]
    assert detailed_B3TT is not None
    upright_B = torch.zeros(len(detailed_B3TT), dtype=torch.bool)
    for boxes_B4, valid_B in zip(found.boxes_BM4.unbind(1), found.valid_BM.unbind(1), strict=True):
        windows_B4 = to_windows(boxes_B4, detailed_B3TT.shape[-1])
        yield crop_and_resize(detailed_B3TT, windows_B4, upright_B, size), valid_B


def choose_boxes(squares: Squares, config: CropsConfig) -> Iterator[FoundBoxes]:
    """The boxes that the passes name, of each image."""
    if config.needs_parts:
        ids_Bhw = squares.ids_Bhw
        assert ids_Bhw is not None
        found = find_boxes(
            ids_Bhw, squares.background, config.parts, config.margin, config.part_side
        )
        if "object" in config.passes:
            yield FoundBoxes(found.boxes_BM4[:, :1], found.valid_BM[:, :1])
        if "parts" in config.passes:
            yield FoundBoxes(found.boxes_BM4[:, 1:], found.valid_BM[:, 1:])
        if "random" in config.passes:
            yield replace(found, boxes_BM4=scatter_boxes(found.boxes_BM4, _places(squares, found)))
    if "corners" in config.passes:
        boxes_BM4 = torch.tensor(CORNERS).expand(len(squares.whole_B3SS), -1, -1)
        yield FoundBoxes(boxes_BM4, torch.ones(boxes_BM4.shape[:2], dtype=torch.bool))


def _places(squares: Squares, found: FoundBoxes) -> Tensor:
    """Numbers in [0, 1) (B,M,2) that depend on an image's number alone."""
    images, boxes = found.valid_BM.shape
    rows_B = torch.arange(images) if squares.rows_B is None else squares.rows_B
    generator = torch.Generator().manual_seed(SEED)
    places_RM2 = torch.rand(int(rows_B.max()) + 1, boxes, 2, generator=generator)
    return places_RM2[rows_B]
