from __future__ import annotations

import pytest

from dashboard.rates import MOST_PER_S, WINDOW_S, Rate


def test_a_rate_needs_two_readings_that_are_apart():
    rate = Rate()
    assert rate.per_s is None
    rate.note(10.0, 100)
    assert rate.per_s is None
    rate.note(10.1, 200)
    assert rate.per_s is None
    rate.note(12.0, 140)  # lower: it counts anew
    assert rate.per_s is None
    rate.note(14.0, 180)
    assert rate.per_s == 20.0


def test_what_was_long_ago_is_forgotten():
    rate = Rate()
    for second in range(100):
        rate.note(float(second), second * 50)
    assert rate.per_s == 50.0
    for second in range(100, 100 + int(WINDOW_S) + 1):
        rate.note(float(second), 99 * 50)
    assert rate.per_s == 0.0


def test_a_pause_between_readings_is_averaged_over():
    rate = Rate()
    rate.note(0.0, 0)
    rate.note(60.0, 600)
    assert rate.per_s == 10.0


@pytest.mark.parametrize("count", [int(MOST_PER_S * 10), 2**64 - 1])
def test_a_rate_that_cannot_be_is_none(count: int):
    rate = Rate()
    rate.note(0.0, 0)
    rate.note(1.0, count)
    assert rate.per_s is None
    rate.forget()
    rate.note(2.0, count)
    assert rate.per_s is None
