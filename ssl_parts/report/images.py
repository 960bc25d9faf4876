"""Pictures of a run as data URIs, together no larger than what a report may weigh."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

WIDEST = 1600
QUALITIES = (88, 80, 70, 55)


def data_uris(paths: Sequence[Path], budget: int) -> dict[Path, tuple[str, int, int] | str]:
    """Each picture as (data URI, width, height), or the sentence why it cannot be shown.

    Args:
        budget: bytes for all of them together; each gets the same share, smaller ones leave theirs
            to the rest.
    """
    left, found = budget, {}
    by_size = sorted(paths, key=lambda path: path.stat().st_size if path.is_file() else 0)
    for i, path in enumerate(by_size):
        try:
            with Image.open(path) as picture:
                picture.load()
                content, width, height = _encode(
                    picture.convert("RGB"), left // (len(by_size) - i) * 3 // 4
                )
        except OSError as error:
            found[path] = f"{path.name} cannot be shown: {error}"
            continue
        left -= len(content) * 4 // 3
        found[path] = f"data:image/webp;base64,{base64.b64encode(content).decode()}", width, height
    return found


def _encode(picture: Image.Image, most: int) -> tuple[bytes, int, int]:
    """WebP of at most that many bytes where it can be had: lower quality first, then fewer pixels."""
    scale = min(1.0, WIDEST / picture.width)
    while True:
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        small = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
        content = b""
        for quality in QUALITIES:
            out = io.BytesIO()
            small.save(out, "webp", quality=quality, method=4)
            content = out.getvalue()
            if len(content) <= most:
                return content, *size
        if min(size) < 32:
            return content, *size
        scale *= 0.75
