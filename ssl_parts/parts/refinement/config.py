"""How ids are refined. Imports no torch: schemas are read before anything heavy is."""

from dataclasses import dataclass

from ssl_parts.configuration.checks import bounded


@dataclass
class CrfConfig:
    """Refinement of ids by colour edges.

    The defaults are those of the released co-segmentation (PARTICLE, arXiv 2309.13822, section 3),
    whose reaches of 3 and 5 pixels are on a grid of four pixels per cell.
    """

    iterations: int = bounded(10, at_least=0)  # of mean field; 0: no refinement
    near: float = bounded(0.75, above=0)  # reach of the Gaussian kernel, in cells
    near_weight: float = bounded(50.0, at_least=0)
    reach: float = bounded(1.25, above=0)  # reach of the bilateral kernel in cells
    colour: float = bounded(13.0, above=0)  # and in grey levels (0..255)
    colour_weight: float = bounded(15.0, at_least=0)
    # probability of the id that clustering gave, where there are no costs to start from
    certainty: float = bounded(0.7, above=0, below=1)
