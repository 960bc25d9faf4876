"""Memory that training frees on a CPU and needs again in the next step, kept in the process."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt(3)
NEVER = 2**31 - 1  # bytes: what malloc_trim(3) or a larger free heap would give back


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the rest of the process; whether it does (other C
    libraries: False).

    By default each tensor of 32 MiB or more comes from the kernel, page by page set to zero, and
    goes back as soon as it is freed: in a training step on a CPU that is up to a sixth of the
    processor's time. Results do not change.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None and bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
    )
