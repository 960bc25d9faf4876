"""How k-means runs. Imports no torch: schemas are read before anything heavy is."""

from dataclasses import dataclass

from ssl_parts.configuration.checks import bounded

BACKENDS = ("torch", "faiss")


@dataclass
class LloydConfig:
    """Lloyd's algorithm."""

    iterations: int = bounded(100, at_least=1)  # at most
    # stop when the centroids' squared shift is under this share of the points' variance
    tolerance: float = bounded(1e-4, at_least=0)


@dataclass
class CentroidsConfig(LloydConfig):
    """One clustering of a sample of a whole data set."""

    spherical: bool = True  # cosine instead of Euclidean distance
    restarts: int = bounded(3, at_least=1)  # from other seeds; the one of least inertia is kept
    # above 0: the smallest k at which one more cluster lowers the inertia by less than this share;
    # k is the limit
    elbow: float = bounded(0.0, at_least=0, below=1)
    # faiss: two to four times as fast for many points, also on its GPUs; inertia within 1 %
    backend: str = bounded("torch", one_of=BACKENDS)
