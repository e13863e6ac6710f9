"""The two clocks, as one seam: decisions take a Clock and never call ``time`` themselves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since 1970. Compared between machines only for expiry, where 3 s of disagreement are allowed for."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards. For durations, deadlines and leases."""
        ...


class SystemClock:
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class VirtualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, wall: float = 1_000_000.0, monotonic: float = 0.0):
        self._wall, self._monotonic = wall, monotonic

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds
