"""Schedules as pure functions of the step: nothing to save, nothing to restore."""

import math


def warmup_cosine(
    step: int, steps: int, peak: float, end: float = 0.0, warmup_share: float = 0.0
) -> float:
    """Rise linearly from peak/warmup to peak, then fall by a cosine that reaches `end` at the last
    step.

    Args:
        step: 0-based optimiser step; at or past the last one the value is `end`.
        steps: of the whole schedule. warmup_share: of these steps, rounded down.
    """
    warmup = int(warmup_share * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine(step - warmup, steps - warmup, peak, end)


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Go from `start` at step 0 to `end` at step steps - 1, and stay there."""
    progress = min(1.0, step / max(1, steps - 1))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
