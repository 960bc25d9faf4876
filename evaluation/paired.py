"""The paired t-test between two arms that share their seeds. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssl_parts.errors import ConfigError


@dataclass(frozen=True)
class PairedTest:
    """A difference between two arms that share their seeds."""

    mean: float  # of b - a
    sd: float  # over seeds, of the differences
    p: float  # two-sided paired t-test; NaN with a single seed
    each: list[float]  # b - a, seed by seed

    @property
    def n(self) -> int:
        return len(self.each)

    @property
    def beyond_spread(self) -> bool:
        """Whether the difference is larger than the seeds' spread: p < 0.05."""
        return bool(self.p < 0.05)

    @property
    def p_text(self) -> str:
        return f"p={self.p:.2g}" if self.p >= 0.001 else "p<0.001"


def paired_test(a: Sequence[float], b: Sequence[float]) -> PairedTest:
    """Paired t-test of b - a, where a[i] and b[i] come from one seed.

    Raises:
        ConfigError: the two have different numbers of seeds.
    """
    if len(a) != len(b) or not len(a):
        raise ConfigError(
            f"a paired test needs the same seeds in both arms; got {len(a)} and {len(b)} values"
        )
    difference = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    mean, n, each = float(difference.mean()), len(difference), difference.tolist()
    if n < 2:
        return PairedTest(mean, float("nan"), float("nan"), each)
    sd = float(difference.std(ddof=1))
    if sd == 0:
        return PairedTest(mean, 0.0, 1.0 if mean == 0 else 0.0, each)
    p = 2 * stats.t.sf(abs(mean) / (sd / np.sqrt(n)), n - 1)
    return PairedTest(mean, sd, float(p), each)
