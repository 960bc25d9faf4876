"""What was read from weights: each tensor's fate, and the input that they expect."""

from dataclasses import dataclass, field

ENOUGH = 0.5  # share of the encoder's tensors below which partial weights are mostly noise


@dataclass(frozen=True)
class StatedInput:
    """What weights say they expect: RGB statistics, "same" or "symmetric" padding or None, and who
    says so.

    usual: mean and std are only those which networks of this kind usually have, so others may be
    asked for.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: str | None
    source: str
    usual: bool = False


@dataclass
class LoadReport:
    """What happened to each tensor. `summary()` is one line for a log, with examples."""

    path: str
    found: str  # where in the file: nested keys and prefix
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # tensors of the encoder that the file lacks
    # tensors of the file without a place, classifiers included
    unexpected: list[str] = field(default_factory=list)
    # "name: (file's shape) for (encoder's shape)"
    mismatched: list[str] = field(default_factory=list)
    stated: StatedInput | None = None  # what the weights say of their input

    @property
    def total(self) -> int:
        """Number of tensors the encoder needs."""
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    @property
    def mostly(self) -> bool:
        """Whether at least half of the encoder's tensors are there."""
        return len(self.matched) >= ENOUGH * self.total

    def summary(self) -> str:
        """Counts, and up to three examples of each kind of trouble."""
        parts = [f"{len(self.matched)} of {self.total} encoder tensors matched (at {self.found})"]
        for kind in ("missing", "mismatched", "unexpected"):
            names = getattr(self, kind)
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {kind} ({shown})")
        return "; ".join(parts)
