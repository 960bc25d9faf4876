"""What a data set has to say about itself: what was left out, taken for something or mended.

Silence about any of these is how test images get into training. A sentence is logged as a warning
the first time that a process hears it (by the first process of a run alone), and kept for `doctor`
and for the preflight of a run.
"""

import logging
import os
from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)
SHOWN = 5  # names in a sentence
_HEARD: set[str] = set()


class Remarks:
    """Sentences about a data set; what is found while images are read is counted by image.

    Args:
        sentences: what is known from the start.
    """

    def __init__(self, sentences: Iterable[str] = ()) -> None:
        self._said: list[str] = []
        self._found: dict[str, set[str]] = {}
        for sentence in sentences:
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """Keep a sentence and log it, each once."""
        if sentence not in self._said:
            self._said.append(sentence)
            say_once(sentence)

    def count(self, what: str, where: str) -> None:
        """Note something about one image or annotation; safe to call again and from threads.

        Args:
            what: a sentence with `{n}`, the number of places.
            where: the place.
        """
        if what not in self._found:
            say_once(f"{what.format(n='at least 1')} (first: {where})")
        self._found.setdefault(what, set()).add(where)

    def sentences(self) -> list[str]:
        """All of them, those of the images with their number and the first names."""
        found = [
            f"{what.format(n=f'{len(places):,}')} ({first_of(places)})"
            for what, places in self._found.items()
        ]
        return [*self._said, *found]


def first_of(names: Iterable[str], shown: int = SHOWN) -> str:
    """The first names in sorted order, with ', ...' where there are more."""
    ordered = sorted(names)
    return ", ".join(ordered[:shown]) + (", ..." if len(ordered) > shown else "")


def counted(number: int, one: str, many: str | None = None) -> str:
    """'1 image', '1,200 images'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def tallied(counts: Mapping[str, int], shown: int = SHOWN) -> str:
    """'12 .heic, 3 .txt', the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{number:,} {name}" for name, number in ordered[:shown]]
    return ", ".join(listed) + (", ..." if len(ordered) > shown else "")


def say_once(sentence: str) -> None:
    """Log a warning, unless this process has, or is not the first of its run."""
    if sentence not in _HEARD and os.environ.get("RANK", "0") == "0":
        _HEARD.add(sentence)
        log.warning("%s", sentence)
