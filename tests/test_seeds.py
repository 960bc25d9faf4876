"""Seeds are functions of their integers: known values, no two tuples alike, no hash of Python."""

import itertools
import subprocess
import sys

import numpy as np
import torch

from ssl_parts.seeds import derive_seed, encode_name, seeded_generator

WORDS = 2**32


def test_seeds_are_those_of_numpys_seed_sequence_over_lengths_and_values():
    expected = np.random.SeedSequence([1, 7, 2, 3, 5]).generate_state(1, np.uint64)[0] >> 1
    assert derive_seed(7, 3 + 5 * WORDS) == int(expected)
    assert derive_seed(0) == 3717377837946358015


def test_no_two_tuples_share_a_seed():
    """Also those that numpy takes for one: zeros at the end, and words of large integers."""
    small = [t for n in range(1, 5) for t in itertools.product(range(4), repeat=n)]
    large = [(3 + 5 * WORDS, 7), (3, 5 + 7 * WORDS), (3, 5, 7), (3 + 5 * WORDS + 7 * WORDS**2,)]
    tuples = [*small, *large]
    assert len({derive_seed(*entropy) for entropy in tuples}) == len(tuples)


def test_a_generator_and_a_name_are_the_same_in_another_process():
    code = (
        "import torch; from ssl_parts.seeds import encode_name, seeded_generator; "
        "print(torch.rand(1, generator=seeded_generator(3, encode_name('round 0'))).item())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    here = torch.rand(1, generator=seeded_generator(3, encode_name("round 0"))).item()
    assert float(told) == here
    assert encode_name("round 0") != encode_name("round 1")
