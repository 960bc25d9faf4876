"""Which features of the pixels are clustered.

Imports no torch: schemas are read before anything heavy is.
"""

from dataclasses import dataclass, field

from ssl_parts.configuration.checks import bounded

FEATURES = ("encoder", "colour")
FACETS = ("token", "key", "query", "value")


@dataclass
class DenseConfig:
    """Maps of an encoder, and how they become one vector per cell."""

    # encoder, or colour: a baseline that needs none
    features: str = bounded("encoder", one_of=FEATURES)
    # maps of the hypercolumn; []: the default of the method
    stages: list[str] = field(default_factory=list)
    # of a ViT: key, query or value of its attention instead of the block's output
    facet: str = bounded("token", one_of=FACETS)
    block: int = -1  # with a facet or a stride: which block; -1 is the last
    # of a ViT's patches in pixels, under the patch size: overlapping patches, a finer grid; 0: the
    # patch size
    stride: int = bounded(0, at_least=0)
    normalize: bool = True  # each map's vectors to unit length before they are concatenated
    # (x, y) of each cell in 0..1 times this is appended to its vector: larger, more compact parts
    position: float = bounded(0.0, at_least=0)

    @property
    def inside_block(self) -> bool:
        """Whether descriptors are read inside a ViT's block instead of from the encoder's maps."""
        return self.facet != "token" or self.stride > 0
