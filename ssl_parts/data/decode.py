"""One way from a file or its bytes to uint8 RGB: every image in this project passes through
`decode_image`.

torchcodec decodes plain JPEG and PNG where it is installed (the same pixels as PIL, faster); PIL
does the rest.
"""

import importlib
import io
from collections.abc import Callable, Iterator
from functools import cache
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ssl_parts.errors import DataError

MAX_PIXELS = 89_478_485  # PIL's own limit
# memory that decoding one image may take: 64 million pixels of an RGB photograph
MAX_BYTES = 450_000_000
STRIP = 1 << 18  # pixels that are converted together
# bytes of a pixel: as PIL keeps it, and more while these are decoded (progressive JPEG: its
# coefficients)
STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
WHILE_DECODING = {"WEBP": 8, "AVIF": 8, "progressive": 6}
# what PIL may open: no format that starts another program (EPS) or reads other files
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF")
LOSSY = ("JPEG", "MPO")  # of masks: they change ids
CODEC_FORMATS = ("JPEG", "PNG")
CODEC_MODES = ("RGB", "L")


def decode_image(source: str | PathLike | bytes | memoryview, path: str | None = None) -> Tensor:
    """Decode the first frame of an image.

    EXIF orientation is applied; greyscale, palette, CMYK, YCbCr, Lab and 16-bit images are
    converted; what is transparent shows white. 16-bit values are divided by 257; float values
    within [0, 1] are multiplied by 255.

    Args:
        source: a file, or the encoded bytes.
        path: what to call it in messages; needed for bytes only.

    Returns:
        uint8 (3, H, W), RGB.

    Raises:
        DataError: missing, empty, truncated or damaged file, no known image format, or so many
        pixels that decoding would
            take more than `MAX_BYTES`.
    """
    name = (
        path
        if path is not None
        else (source if isinstance(source, str | PathLike) else "image bytes")
    )
    data = _read(source, str(name))
    try:
        with open_image(data) as header:
            _check_size(header, str(name))
            image = _decode_with_codec(data, header)
            return _decode_with_pil(header) if image is None else image
    except DataError:
        raise
    # damaged files raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise DataError(
            f"{name}: cannot decode this image ({_reason(error)}); {_way_out(data)}"
        ) from error


def decode_mask(source: str | PathLike | bytes | memoryview, path: str | None = None) -> Tensor:
    """Decode an annotation whose pixel values are ids: uint8 (H, W), nothing converted; a palette
    image gives its indices, RGB its first channel where all three are equal; an alpha channel is
    not looked at.

    Raises:
        DataError: as `decode_image`; ids above 255 or between whole numbers; an image with colours
            instead of ids, or one that JPEG has changed.
    """
    name = str(path if path is not None else source)
    data = _read(source, name)
    try:
        with open_image(data) as image:
            _check_size(image, name, result=9)  # PIL's bytes, numpy's, and what compares channels
            kind, ids = image.format, np.asarray(image)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: cannot decode this mask ({_reason(error)}); replace the file"
        ) from error
    if kind in LOSSY:
        raise DataError(
            f"{name}: a mask as {kind}, which changes ids a little everywhere; save it as 8-bit PNG"
        )
    return torch.from_numpy(_as_ids(ids, name))


def _as_ids(pixels: np.ndarray, name: str) -> np.ndarray:
    """uint8 (H, W) from what PIL gives: (H, W), or (H, W, 2..4) with an alpha channel at the end
    of 2 and 4.
    """
    if pixels.ndim == 3:
        colours_HWC = pixels[..., :1] if pixels.shape[2] == 2 else pixels[..., :3]
        if (colours_HWC != colours_HWC[..., :1]).any():
            raise DataError(
                f"{name}: a mask holds one id a pixel, but this image has colours; save it as 8-bit greyscale ids"
            )
        pixels = colours_HWC[..., 0]
    if pixels.dtype != bool and not (pixels.min() >= 0 and pixels.max() <= 255):  # NaN is neither
        raise DataError(
            f"{name}: mask ids run from {pixels.min()} to {pixels.max()}; they must lie in 0..255"
        )
    ids = pixels.astype(np.uint8)
    if pixels.dtype.kind == "f" and (ids != pixels).any():
        raise DataError(
            f"{name}: mask ids must be whole numbers, but {pixels[ids != pixels][0]} is there"
        )
    return ids


def open_image(source: str | PathLike | bytes | memoryview) -> Image.Image:
    """PIL's image of a file or of bytes, its pixels not yet read: raster formats only."""
    stream = source if isinstance(source, str | PathLike) else io.BytesIO(source)
    return Image.open(stream, formats=formats())


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this PIL was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def looks_whole(source: str | PathLike | bytes | memoryview, path: str | None = None) -> bool:
    """A cheap look (header, size and end marker) that decodes nothing. False where a full decode
    should be tried; True does not exclude damage inside."""
    try:
        data = _read(
            source, str(path or source if not isinstance(source, bytes | memoryview) else path)
        )
        with open_image(data) as image:
            fits, kind = _fits(image), image.format
    except Exception:
        return False
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
    return fits and kind in endings and endings[kind] in bytes(data[-64:])


@cache
def codec() -> Callable[[Tensor], Tensor] | None:
    """torchcodec's decoder, or None where it is not installed or its libraries do not load here."""
    try:
        decode = importlib.import_module("torchcodec.decoders").decode_image
        black = io.BytesIO()
        Image.new("RGB", (3, 2)).save(black, "JPEG")
        tried = decode(_as_tensor(black.getvalue()))
    # a missing shared library shows as ImportError, OSError or RuntimeError, by version
    except Exception:
        return None
    return decode if tried.shape == (3, 2, 3) and tried.dtype == torch.uint8 else None


def _decode_with_codec(data: bytes | memoryview, header: Image.Image) -> Tensor | None:
    plain = (
        header.format in CODEC_FORMATS
        and header.mode in CODEC_MODES
        and "transparency" not in header.info
    )
    if (
        not plain
        or (decode := codec()) is None
        or exif_orientation(header) != 1
        or (header.format == "PNG" and _bit_depth(data) != 8)
    ):
        return None
    try:
        image = decode(_as_tensor(data))
    except Exception:
        return None  # PIL has the last word, and the better message
    return image.contiguous() if image.shape == (3, header.height, header.width) else None


def _decode_with_pil(image: Image.Image) -> Tensor:
    """Strip by strip, so that no second whole image stands beside PIL's and the result."""
    image.load()  # before anything else: a truncated file fails here
    numbers = image.mode.startswith("I") or image.mode == "F"
    scale = _scale_of(image) if numbers else 1.0
    result = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    for top, strip in _strips(image):
        rows = result[:, top : top + strip.height]
        if numbers:
            rows.copy_(torch.from_numpy(_as_grey(np.asarray(strip), scale)).expand_as(rows))
        else:
            rows.copy_(torch.from_numpy(np.array(_on_white(strip).convert("RGB"))).permute(2, 0, 1))
    return turn(result, exif_orientation(image))


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(first row, rows of the image from there)."""
    height = max(1, STRIP // image.width)
    if height >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, height):
        yield top, image.crop((0, top, image.width, min(image.height, top + height)))


def _on_white(image: Image.Image) -> Image.Image:
    """What is transparent shows white."""
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _scale_of(image: Image.Image) -> float:
    """What brings 16-bit, 32-bit and float greyscale to 0..255. PIL also uses 32-bit for 16-bit
    files, so integers are taken as 16-bit; floats are shares where none is above 1."""
    if image.mode != "F":
        return 1 / 257
    highest = max(
        float(np.nan_to_num(np.asarray(strip)).max(initial=0)) for _, strip in _strips(image)
    )
    return 255.0 if highest <= 1 else 1.0


def _as_grey(values_HW: np.ndarray, scale: float) -> np.ndarray:
    values = np.nan_to_num(values_HW.astype(np.float64))
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def turn(image: Tensor, orientation: int) -> Tensor:
    """An image or a mask (..., H, W) as EXIF turns it; (..., W, H) for orientations 5 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(-1, -2)
    if orientation in (2, 3, 6, 7):
        image = torch.flip(image, (-1,))
    if orientation in (3, 4, 7, 8):
        image = torch.flip(image, (-2,))
    return image.contiguous()


def exif_orientation(image: Image.Image) -> int:
    """1 to 8; 1 where EXIF says nothing that has a meaning."""
    try:
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1) or 1)
    except Exception:  # a damaged EXIF block is no reason to refuse the image
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def stated_orientation(image: Image.Image) -> int:
    """As `exif_orientation`, from the head of the file alone: PIL decodes a PNG to look for EXIF
    behind its pixels.
    """
    return 1 if image.format == "PNG" and "exif" not in image.info else exif_orientation(image)


def _bit_depth(png: bytes | memoryview) -> int:
    return png[24]  # signature 8, length 4, "IHDR" 4, width 4, height 4


def _as_tensor(data: bytes | memoryview) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


def _read(source: str | PathLike | bytes | memoryview, name: str) -> bytes | memoryview:
    if isinstance(source, str | PathLike):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot read this file ({error.strerror or error})") from error
    if len(source) == 0:
        raise DataError(f"{name}: the file is empty (0 bytes); {_way_out(source)}")
    return source


def _check_size(image: Image.Image, name: str, result: int = 3) -> None:
    """Raises DataError for an image whose decoding would take too much memory; `result`: bytes a
    pixel of it.
    """
    if not _fits(image, result):
        raise DataError(
            f"{name}: {image.width} x {image.height} pixels ({image.format}, {image.mode}) would take "
            f"{_cost(image, result) >> 20} MiB to decode, above the limit of {MAX_BYTES >> 20} (a large scan, a "
            f"damaged "
            "header or a decompression bomb); make the image smaller or leave it out"
        )


def _fits(image: Image.Image, result: int = 3) -> bool:
    return image.width * image.height <= MAX_PIXELS and _cost(image, result) <= MAX_BYTES


def _cost(image: Image.Image, result: int) -> int:
    """Bytes that decoding takes: PIL's image, what the decoder holds beside it, and the result
    (twice if it is turned)."""
    progressive = (
        "progressive" if image.info.get("progressive") or image.info.get("progression") else ""
    )
    decoder = WHILE_DECODING.get(image.format or "", 0) + WHILE_DECODING.get(progressive, 0)
    turned = result if stated_orientation(image) != 1 else 0
    return image.width * image.height * (STORED.get(image.mode, 4) + decoder + result + turned)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (
        f"none of the formats {', '.join(formats())}"
        if isinstance(error, Image.UnidentifiedImageError)
        else text[:160]
    )


def _way_out(data: bytes | memoryview) -> str:
    return f"{len(data)} bytes; fetch the file again, or leave such images out with data.on_bad_image=skip"
