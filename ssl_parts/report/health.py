"""What a practised eye would look at first, as sentences with the numbers they rest on. Rules of
thumb, not tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """One observation; `fine` is False where something deserves a look."""

    fine: bool
    text: str


def findings(
    phases: Mapping[str, Rows],
    part_rounds: Mapping[int, Mapping[str, Any]],
    warnings: Sequence[str] = (),
) -> list[Finding]:
    """What the run itself warned of, then collapse, lost rank, views without common parts, and
    parts that are empty, uneven or unstable."""
    found = [Finding(False, f"Harm: {text}.") for text in warnings]
    found += [finding for name, rows in phases.items() for finding in _of_phase(name, rows)]
    for number, statistics in part_rounds.items():
        found += _of_parts(number, statistics)
    return found


def _of_phase(name: str, rows: Rows) -> list[Finding]:
    found = []
    spread, rank = _values(rows, "feature_std"), _values(rows, "rank_me")
    if spread:
        collapsed = spread[-1] < 0.2
        words = (
            "close to collapse (0 is all images alike)"
            if collapsed
            else "spread out (0 would be collapse)"
        )
        found.append(
            Finding(
                not collapsed,
                f"{name}: features are {words}: feature_std {spread[-1]:.2f} at the end.",
            )
        )
    if len(rank) > 1 and rank[-1] < 0.5 * rank[0]:
        text = f"{name}: the features' effective rank fell from {rank[0]:.0f} to {rank[-1]:.0f}; accuracy may follow."
        found.append(Finding(False, text))
    shared = _values(rows, "shared_parts")
    if shared:
        few = shared[-1] < 1
        tail = (
            "; most pairs teach nothing. Raise views.crop.scale or check the parts" if few else ""
        )
        found.append(
            Finding(not few, f"{name}: a pair of views shares {shared[-1]:.1f} parts{tail}.")
        )
    return found


def _of_parts(number: int, statistics: Mapping[str, Any]) -> list[Finding]:
    found, where = [], f"parts of round {number}"
    images, empty = statistics.get("images"), statistics.get("empty")
    if images and empty and empty > 0.02 * images:
        text = f"{where}: {empty} of {images} images are background only; see parts.foreground."
        found.append(Finding(False, text))
    share = statistics.get("foreground_share")
    if share is not None and not 0.03 <= share <= 0.85:
        text = f"{where}: {100 * share:.0f} % of the cells are foreground; is the object cut out rightly?"
        found.append(Finding(False, text))
    entropy = statistics.get("usage_entropy")
    if entropy is not None and entropy < 0.6:
        text = f"{where}: a few ids take most of the object (usage entropy {entropy:.2f} of 1); fewer parts may do."
        found.append(Finding(False, text))
    agreement = statistics.get("nmi_before")
    if agreement is not None:
        stable = agreement >= 0.3
        text = f"{where} agree with those of the round before to {agreement:.2f} (NMI; 1 is the same parts)."
        found.append(Finding(stable, text))
    return found


def _values(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows if isinstance(row.get(key), int | float)]
