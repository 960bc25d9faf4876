"""A disk that is full or may not be written, as one sentence.

Imports no torch: commands that need none report the same mistakes.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_parts.errors import TrainingError

DISK_ERRORS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Report what the system refuses to write as a TrainingError; other exceptions pass.

    Args:
        folder: named in the sentence where the system names no file.

    Raises:
        TrainingError: in place of an OSError of a full, read-only or forbidden disk.

    Example:
        >>> with disk_errors(Path("runs/birds")):
        ...     pass  # whatever writes below runs/birds
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise TrainingError(
            f"{error.filename or folder} cannot be written: {error.strerror}. What was finished is "
            "untouched; free some disk or mend the permissions and start the same command again"
        ) from error
