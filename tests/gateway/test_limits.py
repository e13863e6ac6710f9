"""A caller gets what is his, then 429 with the time to wait, whatever others do."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from gateway import limits
from gateway.errors import ApiError
from gateway.limits import Allowance, Limits, TokenBucket
from swarm.clock import VirtualClock
from swarm.errors import UsageError


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(rate=2.0, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.take(0.5) == 0
    assert bucket.take(0.75) == pytest.approx(0.25)


def test_a_bucket_never_holds_more_than_its_burst():
    bucket = TokenBucket(rate=1.0, burst=2, now=0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [0, 0, pytest.approx(1.0)]


def test_too_many_requests_a_minute_are_told_when_to_come_again():
    clock, of_caller = VirtualClock(), Limits(requests_per_minute=6)
    allowance = Allowance(clock)
    with allowance.admit("ann", of_caller):
        pass
    with pytest.raises(ApiError, match="6 requests a minute") as refused, allowance.admit("ann", of_caller):
        pass
    assert refused.value.status == 429 and refused.value.headers["retry-after"] == "10"
    with allowance.admit("bob", of_caller):
        pass
    clock.advance(10)
    with allowance.admit("ann", of_caller):
        pass


def test_too_many_at_a_time_are_refused_until_one_is_over():
    allowance, of_caller = Allowance(VirtualClock()), Limits(concurrent=2)
    with ExitStack() as stack:
        stack.enter_context(allowance.admit("ann", of_caller))
        with allowance.admit("ann", of_caller), pytest.raises(ApiError, match="2 may at a time") as refused:
            stack.enter_context(allowance.admit("ann", of_caller))
        assert refused.value.status == 429 and "retry-after" in refused.value.headers
        with allowance.admit("ann", of_caller):
            pass


def test_a_request_that_fails_gives_its_place_back():
    allowance, of_caller = Allowance(VirtualClock()), Limits(concurrent=1)
    with pytest.raises(ZeroDivisionError), allowance.admit("ann", of_caller):
        raise ZeroDivisionError
    with allowance.admit("ann", of_caller):
        pass


def test_of_callers_without_number_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "MAX_CALLERS", 3)
    allowance, of_caller = Allowance(VirtualClock()), Limits(concurrent=1)
    with allowance.admit("busy", of_caller):
        for n in range(10):
            with allowance.admit(f"host {n}", of_caller):
                pass
        assert len(allowance) == 3
        with pytest.raises(ApiError), allowance.admit("busy", of_caller):
            pass


@pytest.mark.parametrize(
    "wrong", [{"requests_per_minute": 0}, {"requests_per_minute": float("nan")}, {"concurrent": 0}]
)
def test_limits_that_let_nobody_in_are_refused(wrong: dict):
    with pytest.raises(UsageError):
        Limits(**wrong)
