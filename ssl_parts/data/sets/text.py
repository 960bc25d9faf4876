"""Text files as people save them: UTF-8 with or without a mark, UTF-16, and what Windows writes."""

import codecs
from pathlib import Path

from ssl_parts.errors import DataError

MAX_BYTES = 256 << 20  # far more than a list of millions of names
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: its mark begins with that of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, other: str | None = None) -> tuple[str, str]:
    """(text, encoding) of a text file.

    The encoding is that of its mark; else UTF-16 where every second byte is zero, else UTF-8, else
    Windows' cp1252.

    Args:
        other: how bytes that are no UTF-8 are read in place of cp1252, as an error handler of
            Python: "surrogateescape" keeps the bytes of file names.

    Raises:
        DataError: a file that cannot be read, or is in none of these.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size >> 20} MiB, too much for a text list")
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot read this file ({reason})") from error
    for encoding in _encodings(data, other):
        try:
            return data.decode(
                encoding, other if encoding == "utf-8" and other else "strict"
            ), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path}: neither UTF-8 nor UTF-16 nor cp1252 text; save it as UTF-8")


def _encodings(data: bytes, other: str | None) -> list[str]:
    mark = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    if mark is not None:
        return [mark]
    even, odd = data[:400:2], data[1:400:2]
    if odd and not odd.strip(b"\0"):
        return ["utf-16-le"]
    if odd and not even.strip(b"\0"):
        return ["utf-16-be"]
    return ["utf-8"] if other else ["utf-8", "cp1252"]
