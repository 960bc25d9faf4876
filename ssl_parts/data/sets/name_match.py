"""Names of files as lists write them, found among names as they are: case, slashes, composed or
decomposed letters, a missing suffix or folder may differ, where only one name fits.
"""

import re
import unicodedata
from collections.abc import Iterable


class NameMatch:
    """Finds names among these.

    Args:
        names: paths with forward slashes.
        bare: a name may also lack its suffix or its folders.
    """

    def __init__(self, names: Iterable[str], bare: bool = False) -> None:
        self._names = set(names)
        self._bare = bare
        self._loose: dict[str, set[str]] = {}
        for name in self._names:
            for form in _forms(name, bare):
                self._loose.setdefault(form, set()).add(name)

    def find(self, name: str) -> str | None:
        """The name itself, else the only one that is alike; None without one, or with several."""
        if name in self._names:
            return name
        for form in _forms(name, self._bare):
            alike = self._loose.get(form, set())
            if len(alike) == 1:
                return next(iter(alike))
        return None


def plain_path(name: str) -> str:
    """A path as a list writes it, with forward slashes and without ./ before it."""
    path = name.strip().replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    return path


def alike(name: str) -> str:
    """What is equal for names that look the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _forms(name: str, bare: bool) -> list[str]:
    """The strictest first."""
    whole = alike(name)
    if not bare:
        return [whole]
    base = whole.rpartition("/")[2]
    return [whole, without_suffix(whole), base, without_suffix(base)]


def without_suffix(path: str) -> str:
    """path without a suffix of letters and digits."""
    return re.sub(r"(?<=[^/])\.[a-z0-9]{1,5}$", "", path, flags=re.IGNORECASE)
