"""The clocks, as one seam: decisions take a Clock and never call ``time`` themselves; loops sleep on it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since 1970. Compared between machines only for expiry, where 3 s of disagreement are allowed for."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards. For durations, deadlines and leases."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns when that much monotonic time has passed."""
        ...


class SystemClock:
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that stands still until it is told to move; who sleeps on it wakes when it has moved far enough."""

    def __init__(self, wall: float = 1_000_000.0, monotonic: float = 0.0):
        self._wall, self._monotonic = wall, monotonic
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awoken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, awoken))
        await awoken

    def advance(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds
        due = [f for at, f in self._sleepers if at <= self._monotonic]
        self._sleepers = [(at, f) for at, f in self._sleepers if at > self._monotonic and not f.done()]
        for awoken in due:
            if not awoken.done():
                awoken.set_result(None)
