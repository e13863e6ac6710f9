"""Allowance: how often, and how many at a time, each caller may ask. Token buckets on a clock that is passed in.

A bucket holds ``burst`` requests and gains ``per_minute / 60`` a second. A refusal says when the next one would be let
in. Callers are names of keys, or addresses where there are no keys; of those there may be any number, so only the
latest ``MAX_CALLERS`` are remembered (one that runs something is never forgotten).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.errors import ApiError
from swarm.bucket import MAX_CALLERS, TokenBucket
from swarm.clock import Clock
from swarm.errors import UsageError

BUSY_RETRY_S = 1.0  # nobody knows when an answer will be over


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one caller; None: no limit."""

    requests_per_minute: float | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        rpm, concurrent = self.requests_per_minute, self.concurrent
        if rpm is not None and not (math.isfinite(rpm) and rpm > 0):
            raise UsageError(f"requests per minute must be a positive number, not {rpm}")
        if concurrent is not None and concurrent < 1:
            raise UsageError(f"concurrent requests must be at least 1, not {concurrent}")


class _Caller:
    def __init__(self, limits: Limits, now: float):
        self.running = 0
        self.limit(limits, now)

    def limit(self, limits: Limits, now: float) -> None:
        """From now on."""
        rpm = limits.requests_per_minute
        self.limits = limits
        self.bucket = None if rpm is None else TokenBucket(rpm / 60, max(1.0, rpm / 6), now)  # 10 s worth at once


class Allowance:
    """The books of all callers."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    @contextmanager
    def admit(self, caller: str, limits: Limits) -> Generator[None]:
        """For as long as the request runs. Raises ApiError 429, which says when to come again."""
        now = self._clock.monotonic()
        books = self._callers.get(caller)
        if books is None:
            books = self._callers[caller] = _Caller(limits, now)
            self._forget()
        if books.limits != limits:  # keys were read again
            books.limit(limits, now)
        self._callers.move_to_end(caller)
        if limits.concurrent is not None and books.running >= limits.concurrent:
            raise ApiError(
                429, f"{books.running} of your requests are running, {limits.concurrent} may at a time",
                code="too_many_concurrent_requests", retry_after_s=BUSY_RETRY_S,
            )  # fmt: skip
        wait_s = books.bucket.take(now) if books.bucket is not None else 0.0
        if wait_s > 0:
            raise ApiError(
                429, f"more than {limits.requests_per_minute:g} requests a minute; the next one in {wait_s:.1f} s",
                code="rate_limit_exceeded", retry_after_s=wait_s,
            )  # fmt: skip
        books.running += 1
        try:
            yield
        finally:
            books.running -= 1

    def _forget(self) -> None:
        if len(self._callers) <= MAX_CALLERS:
            return
        # Also the newest, if everybody else is busy: its books live on in the hands of its request.
        idle = next((name for name, books in self._callers.items() if not books.running), None)
        if idle is not None:
            del self._callers[idle]

    def __len__(self) -> int:
        return len(self._callers)
