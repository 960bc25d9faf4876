"""Which images a step reads: pure functions of (seed, step). Nothing is stored, so nothing can be
resumed wrongly.

A pass over the data is one permutation cut into whole batches; what is left over at its end waits
for the next pass, which has another permutation. Ranks take slices of the global batch, so a batch
is the same on any number of ranks.
"""

from functools import lru_cache

import numpy as np

from ssl_parts.errors import ConfigError

EPOCH = 0  # what a permutation is of; class_balanced.py has others


def epoch_permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order (n,) int64 in which pass number `epoch` would read n images; read-only."""
    return permutation((seed, EPOCH, epoch), n)


def steps_per_epoch(batch: int, n: int) -> int:
    """Whole batches in a pass over n images.

    Raises:
        ConfigError: no data, or a batch larger than the data set.
    """
    if batch < 1:
        raise ConfigError(f"train.batch={batch} must be at least 1")
    if batch > n:
        raise ConfigError(
            f"train.batch={batch} is larger than the data set of {n} images; lower train.batch to at most {n}, or "
            "point data.root at more images"
        )
    return n // batch


def batch_indices(step: int, batch: int, n: int, seed: int) -> np.ndarray:
    """The global batch (batch,) int64 of step 0, 1, 2, ...: no image twice in a step, none twice
    in a pass.

    Raises:
        ConfigError: batch larger than n.
    """
    epoch, position = divmod(step, steps_per_epoch(batch, n))
    return epoch_permutation(seed, epoch, n)[position * batch : (position + 1) * batch].copy()


def rank_slice(batch: int, rank: int, world_size: int) -> slice:
    """The share of a global batch that process `rank` of `world_size` works on; shares are equal,
    disjoint, in order.

    Raises:
        ConfigError: a batch that does not divide by the number of processes.
    """
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank} is not in 0..{world_size - 1}")
    share, rest = divmod(batch, world_size)
    if rest or share == 0:
        nearest = max(1, round(batch / world_size)) * world_size
        raise ConfigError(
            f"train.batch={batch} cannot be shared by {world_size} processes; a batch is over all processes: "
            f"use a multiple of {world_size}, as train.batch={nearest}"
        )
    return slice(rank * share, (rank + 1) * share)


def evenly_spaced(n: int, count: int) -> np.ndarray:
    """At most `count` of the positions 0 .. n-1, evenly spaced, the first and the last among them.

    Position i of m is floor(i (n - 1) / (m - 1)), in whole numbers.

    Returns:
        int64 (min(n, count),), ascending, no position twice.

    Example:
        >>> evenly_spaced(10, 4).tolist(), evenly_spaced(3, 5).tolist(), evenly_spaced(9, 1).tolist()
        ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    count = max(0, min(n, count))
    return np.arange(count, dtype=np.int64) * (n - 1) // max(1, count - 1)


@lru_cache(maxsize=4)
def permutation(entropy: tuple[int, ...], n: int) -> np.ndarray:
    """A permutation (n,) int64 that depends on its arguments alone; read-only."""
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy))).permutation(n)
    order.setflags(write=False)
    return order
