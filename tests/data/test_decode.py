import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ssl_parts.data import decode as decoding
from ssl_parts.data.decode import MAX_PIXELS, _check_size, decode_image, decode_mask, looks_whole
from ssl_parts.errors import DataError

RAMP = np.stack(
    np.broadcast_arrays(np.arange(48)[None, :] * 5, np.arange(32)[:, None] * 7, 90), -1
).astype(np.uint8)


def encoded(image, **save) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, **save)
    return stream.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_png_comes_back_exactly():
    image = decode_image(encoded(RAMP, format="PNG"), "ramp.png")
    assert image.dtype == torch.uint8 and image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), RAMP)


@pytest.mark.parametrize("save", [{}, {"progressive": True}, {"subsampling": 0, "quality": 40}])
def test_codec_and_pil_give_the_same_pixels(save, monkeypatch):
    if decoding.codec() is None:
        pytest.skip("torchcodec is not installed")
    data = encoded(RAMP, format="JPEG", **save)
    with_codec = decode_image(data, "a.jpg")
    monkeypatch.setattr(decoding, "codec", lambda: None)
    assert torch.equal(with_codec, decode_image(data, "a.jpg"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation(orientation, kind):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(RAMP, format=kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image = decode_image(data, "a")
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(upright))
    assert tuple(image.shape[1:]) == ((48, 32) if orientation > 4 else (32, 48))


def test_greyscale_is_three_equal_channels():
    grey = RAMP[..., 0]
    for kind in ("JPEG", "PNG"):
        image = decode_image(
            encoded(grey, format=kind, **({"quality": 100} if kind == "JPEG" else {})), "g"
        )
        assert (image[0] == image[1]).all() and (image[0] == image[2]).all()
        assert np.abs(image[0].numpy().astype(int) - grey).max() <= 2


@pytest.mark.parametrize("dtype,scale", [(np.uint16, 257), (np.int32, 257)])
def test_sixteen_bit_is_scaled_not_clipped(dtype, scale):
    grey = RAMP[..., 0]
    data = encoded(grey.astype(dtype) * scale, format="TIFF" if dtype == np.int32 else "PNG")
    assert np.array_equal(decode_image(data, "g16")[0].numpy(), grey)


def test_float_images():
    unit = RAMP[..., 0].astype(np.float32) / 255
    assert np.array_equal(decode_image(encoded(unit, format="TIFF"), "f")[0].numpy(), RAMP[..., 0])
    unit[0, 0] = np.nan
    assert decode_image(encoded(unit * 255, format="TIFF"), "f")[0, 0, 0] == 0


def test_cmyk():
    red = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    r, g, b = decode_image(encoded(red, format="JPEG", quality=95), "c.jpg")[:, 4, 8].tolist()
    assert r > 240 and g < 15 and b < 15


def test_transparent_shows_white_in_every_mode():
    rgba = np.dstack([RAMP, np.full(RAMP.shape[:2], 255, np.uint8)])
    rgba[:16, :, 3] = 0
    rgba[16, :, 3] = 51  # a fifth
    image = decode_image(encoded(rgba, format="PNG"), "a.png").permute(1, 2, 0).numpy()
    assert (image[:16] == 255).all() and np.array_equal(image[17:], RAMP[17:])
    assert np.abs(image[16].astype(float) - (0.2 * RAMP[16] + 0.8 * 255)).max() <= 1
    palette = Image.fromarray(RAMP).quantize(8)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert (
        decode_image(encoded(palette, format="PNG", transparency=palette.getpixel((0, 0))), "p")[
            :, 0, 0
        ]
        .eq(255)
        .all()
    )
    la = np.dstack([RAMP[..., 0], np.zeros(RAMP.shape[:2], np.uint8)])
    assert decode_image(encoded(Image.fromarray(la, "LA"), format="PNG"), "la").eq(255).all()


def test_palette():
    palette = Image.fromarray(RAMP).quantize(16)
    image = decode_image(encoded(palette, format="PNG"), "p.png")
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(palette.convert("RGB")))


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    data = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data, "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.97])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_truncated_names_the_file(tmp_path, share, kind):
    data = encoded(
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), format=kind
    )
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"cut\.bin.*on_bad_image=skip"):
        decode_image(path)


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"empty\.jpg: the file is empty"):
        decode_image(tmp_path / "empty.jpg")
    with pytest.raises(DataError, match=r"none\.jpg: cannot read"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="cannot read"):
        decode_image(tmp_path)


def test_bomb_sized_header_is_refused_before_memory_is_taken():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    )
    with pytest.raises(DataError, match=r"bomb\.png"):
        decode_image(bomb + png_chunk(b"IEND", b""), "bomb.png")
    side = int(MAX_PIXELS**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    large = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    )
    with (
        pytest.raises(DataError, match="above the limit"),
        pytest.warns(Image.DecompressionBombWarning),
    ):
        decode_image(large + png_chunk(b"IEND", b""), "large.png")


def test_masks_keep_ids(tmp_path):
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(decode_mask(encoded(ids, format="PNG"), "m").numpy(), ids)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    assert np.array_equal(decode_mask(encoded(palette, format="PNG"), "m").numpy(), ids)
    assert np.array_equal(
        decode_mask(encoded(np.dstack([ids] * 3), format="PNG"), "m").numpy(), ids
    )
    with pytest.raises(DataError, match="colours"):
        decode_mask(encoded(RAMP, format="PNG"), "colour.png")
    with pytest.raises(DataError, match=r"deep\.png.*0\.\.255"):
        decode_mask(encoded(ids.astype(np.uint16) * 100, format="PNG"), "deep.png")


def test_looks_whole():
    for kind in ("JPEG", "PNG"):
        data = encoded(RAMP, format=kind)
        assert looks_whole(data)
        assert not looks_whole(data[:-20])
    assert not looks_whole(b"") and not looks_whole(b"not an image")


def test_strips_give_what_the_whole_image_gives(tmp_path, monkeypatch):
    """Strips of a few rows, against PIL's conversion of the whole image at once."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (23, 17, 4), dtype=np.uint8)
    images = {
        mode: Image.fromarray(pixels).convert(mode)
        for mode in ("RGB", "RGBA", "LA", "L", "CMYK", "1")
    }
    images["P"] = Image.fromarray(pixels[..., :3]).quantize(9)
    images["F"] = Image.fromarray(rng.random((23, 17)).astype(np.float32))
    images["I;16"] = Image.fromarray(rng.integers(0, 65535, (23, 17), dtype=np.uint16))
    for number, (mode, image) in enumerate(images.items()):
        path = tmp_path / f"{number}.tif"
        image.save(path, **({"transparency": 3} if mode == "P" else {}))
        whole = decode_image(path)
        with monkeypatch.context() as patch:
            patch.setattr("ssl_parts.data.decode.STRIP", 40)
            assert torch.equal(decode_image(path), whole), mode
        if mode in ("RGB", "L", "CMYK", "1"):
            assert np.array_equal(whole.permute(1, 2, 0), image.convert("RGB")), mode


@pytest.mark.parametrize(
    ("side", "mode", "kind", "fits"),
    [
        (8000, "RGB", "JPEG", True),
        (8100, "RGB", "JPEG", False),
        (9400, "L", "PNG", True),
        (9460, "L", "PNG", False),
        (8100, "RGBA", "PNG", False),
        (5400, "RGBA", "WEBP", True),
        (5500, "RGBA", "WEBP", False),
        (8100, "F", "TIFF", False),
    ],
)
def test_what_would_take_too_much_memory_is_refused_by_name(side, mode, kind, fits):
    """The estimate itself: bytes PIL keeps (4, or 1 for L), 3 of the result, 8 more in WebP's
    decoder.
    """
    image = Image.new(mode, (1, 1))
    image._size, image.format = (side, side), kind
    if fits:
        _check_size(image, "x.jpg")
    else:
        with pytest.raises(
            DataError,
            match=rf"x\.jpg: {side} x {side} pixels \({kind}, {mode}\).*make the image smaller",
        ):
            _check_size(image, "x.jpg")


def test_formats_that_start_programs_are_not_opened(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "bird.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n0 0 64 64 rectfill\n%%EOF\n"
    )
    for decode in (decode_image, decode_mask):
        with pytest.raises(DataError, match=r"bird\.jpg.*none of the formats JPEG"):
            decode(path)
    assert not looks_whole(path) and not (tmp_path / "started").exists()
