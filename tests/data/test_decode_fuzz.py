"""500 damaged files: each decodes to a proper image or raises DataError with its path; memory
stays bounded.
"""

import io
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_parts.data.decode import decode_image
from ssl_parts.errors import DataError

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def originals() -> list[bytes]:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    files = []
    for kind in KINDS:
        stream = io.BytesIO()
        Image.fromarray(smooth).save(stream, format=kind)
        files.append(stream.getvalue())
    for mode, save in (
        ("CMYK", {"format": "JPEG"}),
        ("P", {"format": "PNG"}),
        ("RGBA", {"format": "PNG"}),
    ):
        stream = io.BytesIO()
        Image.fromarray(smooth).convert(mode).save(stream, **save)
        files.append(stream.getvalue())
    return files


def damage(data: bytes, rng: np.random.Generator, how: int) -> bytes:
    flipped = bytearray(data)
    if how == 0:
        return data[: rng.integers(0, len(data))]
    if how == 1:  # bits anywhere
        for _ in range(rng.integers(1, 20)):
            flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif how == 2:  # the header, where sizes stand
        for _ in range(rng.integers(1, 6)):
            flipped[rng.integers(min(64, len(data)))] = rng.integers(256)
    elif how == 3:  # a block of noise
        start = rng.integers(len(data))
        flipped[start : start + 64] = rng.bytes(len(flipped[start : start + 64]))
    else:  # the head of one file on the body of another
        return data[: rng.integers(4, 32)] + rng.bytes(int(rng.integers(0, 2000)))
    return bytes(flipped)


@pytest.mark.filterwarnings("ignore")  # PIL warns of some damage before it fails
def test_fuzz(tmp_path):
    files, rng = originals(), np.random.default_rng(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number in range(500):
        suffix = (".jpg", ".png", ".txt")[number % 3]  # often the wrong one
        path = tmp_path / f"damaged_{number:03d}{suffix}"
        path.write_bytes(
            b"" if number % 50 == 0 else damage(files[number % len(files)], rng, number % 5)
        )
        try:
            image = decode_image(path)
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert (
                image.dtype == torch.uint8
                and image.ndim == 3
                and image.shape[0] == 3
                and image.numel() > 0
            )
    assert 250 < refused < 500
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 1500, f"peak memory grew by {grown:.0f} MiB"
