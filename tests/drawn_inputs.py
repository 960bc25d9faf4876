"""How property tests draw inputs: bounded, and the same every time unless asked for more.

With `SSL_PARTS_EXAMPLES=1000` in the environment they draw more, and other ones each time.
"""

import os

from hypothesis import HealthCheck, settings

from ssl_parts.errors import SslPartsError

EXAMPLES = int(os.environ.get("SSL_PARTS_EXAMPLES", 40))
DRAWN = settings(
    max_examples=EXAMPLES,
    derandomize="SSL_PARTS_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEWER = settings(DRAWN, max_examples=max(EXAMPLES // 2, 1))


def refused(error):
    """An error of ours, and one sentence: no line that is not part of a list of files."""
    text = str(error)
    assert isinstance(error, SslPartsError) and len(text) > 20
    lists = ("  ", "leave them", "mend them")
    assert all(line.startswith(lists) for line in text.splitlines()[1:]), text
