"""Seeds and generators that depend on the integers they are made from, and on nothing else."""

import numpy as np
import torch


def derive_seed(*entropy: int) -> int:
    """A seed in [0, 2**63) from any number of non-negative integers: the same on every machine.

    Different tuples give independent streams (numpy's SeedSequence), so a step, a rank or a purpose
    can simply be another integer.

    Example:
        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def seeded_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU with the seed that `derive_seed` makes of these integers."""
    return torch.Generator().manual_seed(derive_seed(*entropy))


def encode_name(name: str) -> int:
    """A name as an integer, for `derive_seed`: its UTF-8 bytes."""
    return int.from_bytes(name.encode(), "big")
