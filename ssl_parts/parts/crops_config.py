"""Which passes over an image are averaged, and how large its crops are. Imports no torch."""

from dataclasses import dataclass, field

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError

# what a pass shows the encoder, always as a square of the images' size but for the large ones
PASSES = {
    "image": "the whole image",
    "flip": "its mirror image",
    "large": "the whole image with `detail` times the pixels a side",
    "large_flip": "its mirror image",
    "object": "the found object",
    "parts": "its largest found parts, a pass each",
    # --- controls: what discovery is compared with
    "random": "boxes of the same sides as those of object and parts, anywhere in the image",
    "corners": "four squares of 0.6 of the image's sides, in its corners",
}
STANDARD_PASSES = ("image", "flip", "object", "parts")
FOUND_PASSES = frozenset({"object", "parts", "random"})  # those that need part ids


@dataclass
class CropsConfig:
    """Passes over an image whose embeddings are averaged."""

    passes: list[str] = field(default_factory=lambda: list(STANDARD_PASSES))  # names of PASSES
    parts: int = bounded(4, at_least=1)  # the largest so many found parts of an image
    # the object's box, larger by this factor
    margin: float = bounded(1.15, above=0)
    # side of a part's square, as a share of the longer side of the object's box
    part_side: float = bounded(0.5, above=0)
    # crops are cut from squares of so many times the images' side
    detail: float = bounded(2.0, at_least=1)

    @property
    def needs_parts(self) -> bool:
        """Whether a pass looks at something that discovery found."""
        return not FOUND_PASSES.isdisjoint(self.passes)

    @property
    def needs_detail(self) -> bool:
        """Whether a pass shows more than the stored squares."""
        return not {"image", "flip"}.issuperset(self.passes)

    def check(self, section: str) -> None:
        """Raise ConfigError for the first value that cannot work."""
        check_bounds(section, self)
        if not self.passes:
            raise ConfigError(f"{section}.passes=[]: one or more of {', '.join(PASSES)}")
        for name in self.passes:
            if name not in PASSES:
                raise ConfigError(
                    f"{section}.passes has {name!r}, which is not one of {', '.join(PASSES)}"
                    f"{did_you_mean(name, PASSES)}"
                )
        twice = [name for name in PASSES if self.passes.count(name) > 1]
        if twice:
            raise ConfigError(f"{section}.passes has {twice[0]!r} twice; name each pass once")
