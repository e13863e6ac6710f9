"""A check always ends in Findings: whatever it raises, and however long it hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from shoal.finding import Check, Finding, examine, mend
from swarm.errors import UsageError

OK = Finding("x", "ok", "fine")


def check(look: Callable[[], Finding | Sequence[Finding]], timeout_s: float = 5.0) -> Check:
    return Check("x", "looking", timeout_s, look)


def test_one_finding_or_several_come_back():
    assert examine(check(lambda: OK)) == (OK,)
    assert examine(check(lambda: [OK, OK])) == (OK, OK)


def test_an_error_of_ours_has_to_be_mended_and_a_mistake_of_the_check_is_told():
    def ours() -> Finding:
        raise UsageError("port\x1b[31m 0")

    def mistaken() -> Finding:
        raise KeyError("oops")

    (refused,), (broken,) = examine(check(ours)), examine(check(mistaken))
    assert (refused.state, refused.found) == ("fail", "port [31m 0")
    assert broken.state == "warn" and "KeyError" in broken.found and broken.advice


def test_one_that_hangs_is_left_behind():
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        return OK

    (late,) = examine(check(hang, 0.01))
    never.set()
    assert late.state == "warn" and "0.01 s" in late.found


def test_whoever_complains_says_what_to_do():
    with pytest.raises(AssertionError):
        Finding("x", "fail", "broken")


def test_a_warning_is_nothing_that_has_to_be_mended():
    warned, failed = Finding("x", "warn", "so so", "look"), Finding("x", "fail", "bad", "mend it")
    assert not mend([OK, warned]) and mend([warned, failed])
