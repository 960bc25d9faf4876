"""Freed memory stays with the process: the kernel is not asked for the same pages again."""

import ctypes
import resource
import subprocess
import sys

import pytest

CHURN = """
import resource, sys
from ssl_parts.engine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for round in range(6):
    if round == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = bytearray(b"x") * (64 * 2**20)
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs a C library with mallopt"
)
def test_what_is_freed_is_used_again_without_asking_the_kernel():
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", CHURN, mode], check=True, capture_output=True, text=True
            ).stdout
        )
        for mode in ("keep", "default")
    }
    pages = 64 * 2**20 // resource.getpagesize()
    assert faults["keep"] < pages / 10
    # calloc of a fresh mapping: a fault a page as soon as it is written
    assert faults["default"] > 3 * pages
