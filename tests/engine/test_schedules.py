"""Schedules against their closed form."""

import math

import pytest

from ssl_parts.engine.schedules import cosine, warmup_cosine


def test_warm_up_rises_linearly_to_the_peak_and_the_cosine_ends_at_the_end():
    values = [warmup_cosine(t, 100, 0.4, 0.01, 0.1) for t in range(100)]
    assert values[:10] == pytest.approx([0.4 * (t + 1) / 10 for t in range(10)])
    assert values[10] == pytest.approx(0.4)
    assert values[-1] == pytest.approx(0.01)
    assert values[10 + 45] == pytest.approx(0.01 + 0.39 * 0.5 * (1 + math.cos(math.pi * 45 / 89)))
    assert all(a >= b for a, b in zip(values[10:], values[11:]))


def test_momentum_goes_from_start_to_end():
    assert cosine(0, 50, 0.996, 1.0) == pytest.approx(0.996)
    assert cosine(49, 50, 0.996, 1.0) == pytest.approx(1.0)
    assert cosine(7, 50, 0.9, 0.9) == pytest.approx(0.9)


def test_one_step_and_past_the_end_are_defined():
    assert warmup_cosine(0, 1, 0.1) == pytest.approx(0.1)
    assert warmup_cosine(500, 100, 0.1, 0.02) == pytest.approx(0.02)
