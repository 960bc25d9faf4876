"""Seeds and generators that depend on the integers they are made from, and on nothing else."""

import numpy as np
import torch

WORD = 32  # bits of the numbers that numpy's SeedSequence is fed with


def derive_seed(*entropy: int) -> int:
    """A seed in [0, 2**63) from any number of non-negative integers: the same on every machine.

    Different tuples give independent streams, so a step, a rank or a purpose can simply be another
    integer. numpy's SeedSequence alone would not do: it pads with zeros and joins the words of large
    integers, so (1, 2) and (1, 2, 0) would be one stream. Here each integer comes with its length.

    Example:
        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(0, 1, 0)
        (True, False)
    """
    words = [part for n in entropy for part in (max(1, -(-n.bit_length() // WORD)), n)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def seeded_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU with the seed that `derive_seed` makes of these integers."""
    return torch.Generator().manual_seed(derive_seed(*entropy))


def encode_name(name: str) -> int:
    """A name as an integer, for `derive_seed`: its UTF-8 bytes."""
    return int.from_bytes(name.encode(), "big")
