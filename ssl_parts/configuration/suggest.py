"""The nearest known word to one that is not known, for messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> str:
    """`, did you mean 'folder'?`, or "" where nothing is near.

    Args:
        count: suggestions at most. cutoff: similarity that a suggestion needs, 0 to 1.

    Example:
        >>> did_you_mean("foldr", ["folder", "cub"])
        ", did you mean 'folder'?"
    """
    near = difflib.get_close_matches(word, list(known), n=count, cutoff=cutoff)
    return f", did you mean {' or '.join(map(repr, near))}?" if near else ""
