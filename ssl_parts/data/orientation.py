"""How EXIF turns a picture: annotations are sometimes drawn before, sometimes after."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ssl_parts.data.decode import open_image, stated_orientation
from ssl_parts.errors import DataError


@dataclass(frozen=True)
class Header:
    """What a file says of itself. width and height are stored ones, before EXIF (1..8) turns it."""

    width: int
    height: int
    orientation: int

    @property
    def is_turned(self) -> bool:
        """Whether width and height change places."""
        return self.orientation >= 5

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) as the image is shown."""
        return (self.width, self.height) if self.is_turned else (self.height, self.width)

    @property
    def fits_both_ways(self) -> bool:
        """Whether the image is turned or mirrored and its size does not tell."""
        return self.orientation > 1 and (not self.is_turned or self.width == self.height)


def read_header(source: str | PathLike | bytes | memoryview, path: str) -> Header:
    """Size and orientation; nothing is decoded.

    Raises:
        DataError: no readable image.
    """
    try:
        with open_image(Path(source) if isinstance(source, str | PathLike) else source) as image:
            return Header(image.width, image.height, stated_orientation(image))
    except Exception as error:  # damaged files raise nearly anything
        raise DataError(f"{path}: cannot read the head of this image ({error})") from error
