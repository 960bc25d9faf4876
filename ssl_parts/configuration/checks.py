"""Bounds that stand beside the keys they bound, and one check that reads them.

    @dataclass
    class TrainConfig:
        epochs: int = bounded(100, at_least=1)
        ema: float = bounded(0.99, at_least=0, at_most=1)

        def check(self) -> None:
            check_bounds("train", self)

Imports neither torch nor numpy: schemas are read before anything heavy is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError

BOUNDS = "bounds"


@dataclass(frozen=True)
class Bounds:
    """What a value, or each value of a list, must satisfy; None bounds nothing.

    at_least, above: lower limit, included or not. at_most, below: upper limit, included or not.
    one_of: the only values allowed. length: of a list. why: what to do, added to the sentence.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] | None = None
    length: int | None = None
    why: str = ""

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, as the end of a sentence; None where nothing is."""
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return self._problem_of_list(value)
        if self.one_of is not None:
            if value in self.one_of:
                return None
            near = did_you_mean(str(value), self.one_of)
            return f"is not one of {', '.join(self.one_of)}{near}"
        if isinstance(value, str):
            return None
        return None if self._holds(value) else f"must {self.words}"

    def _problem_of_list(self, values: Iterable[Any]) -> str | None:
        values = list(values)
        if self.length is not None and len(values) != self.length:
            return f"must be {self.length} values"
        return next((found for v in values if (found := self.problem(v)) is not None), None)

    def _holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    @property
    def words(self) -> str:
        """The limits as the end of "must ..."."""
        low, high = _first(self.at_least, self.above), _first(self.at_most, self.below)
        if low is None:
            if high is None:
                return "be a finite number"
            most = "be at most" if self.below is None else "be below"
            return f"{most} {_plain(high)}"
        if high is None:
            least = "be at least" if self.above is None else "be above"
            return f"{least} {_plain(low)}"
        opening = "(" if self.at_least is None else "["
        closing = ")" if self.at_most is None else "]"
        return f"lie in {opening}{_plain(low)}, {_plain(high)}{closing}"


def bounded(default: Any, **limits: Any) -> Any:
    """A dataclass field with `Bounds`; a list is copied for each instance.

    Args:
        default: the value where none is given.
        limits: the fields of `Bounds`.
    """
    metadata = {BOUNDS: Bounds(**limits)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_bounds(section: str, config: Any) -> None:
    """Compare every bounded field of a dataclass instance with its bounds.

    Args:
        section: the key above the fields, such as "train"; "" for none.

    Raises:
        ConfigError: the first value out of bounds, with its key and what is allowed.
    """
    for one in fields(config):
        bounds = one.metadata.get(BOUNDS)
        if bounds is None:
            continue
        value = getattr(config, one.name)
        problem = bounds.problem(value)
        if problem is not None:
            key = f"{section}.{one.name}" if section else one.name
            shown = repr(value) if isinstance(value, str) else value
            raise ConfigError(f"{key}={shown} {problem}{f'; {bounds.why}' if bounds.why else ''}")


def _plain(number: float) -> str:
    """A number without trailing zeros; whole ones in full."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
