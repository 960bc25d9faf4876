"""Reading the next piece in a background thread while the present one is worked on."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def read_ahead(read: Callable[[Key], Value], keys: Sequence[Key]) -> Iterator[tuple[Key, Value]]:
    """Each key with `read(key)`, in order; at most one piece is read beyond the present one.

    An error of `read` is raised when its piece is reached.

    Example:
        >>> list(read_ahead(lambda n: n * n, [1, 2, 3]))
        [(1, 1), (2, 4), (3, 9)]
    """
    if not keys:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read ahead") as pool:
        following = pool.submit(read, keys[0])
        for i, key in enumerate(keys):
            value = following.result()
            if i + 1 < len(keys):
                following = pool.submit(read, keys[i + 1])
            yield key, value
