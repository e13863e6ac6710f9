"""Gate: how many answers are made at a time, and who waits for a place: in order, and nobody for ever.

A request takes as many places as it asks for answers. What does not fit into the queue, or waited too long in it, is
told to come again (503): a queue that only grows serves nobody in time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from client.deadline import in_time
from gateway.errors import ApiError
from swarm.clock import Clock

RETRY_S = 2.0


class Gate:
    """``places`` run, ``max_queue`` requests wait, each up to ``max_wait_s``."""

    def __init__(self, places: int, max_queue: int, max_wait_s: float, clock: Clock):
        self._places, self._max_queue, self._max_wait_s, self._clock = places, max_queue, max_wait_s, clock
        self._taken = 0
        self._requests = 0
        self._queue: deque[tuple[int, asyncio.Event]] = deque()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """Requests that hold places."""
        return self._requests

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def enter(self, answers: int) -> AsyncGenerator[float]:
        """The seconds that were waited. Raises ApiError 503."""
        weight = min(answers, self._places)
        begun = self._clock.monotonic()
        if self._queue or self._taken + weight > self._places:
            await self._wait(weight)
        else:
            self._taken += weight
        self._requests += 1
        self._empty.clear()
        try:
            yield self._clock.monotonic() - begun
        finally:
            self._requests -= 1
            self._release(weight)

    async def empty(self) -> None:
        """Until nothing runs and nobody waits."""
        await self._empty.wait()

    async def _wait(self, weight: int) -> None:
        """Until the places are taken for this one."""
        if len(self._queue) >= self._max_queue:
            raise ApiError(
                503, f"the gateway is full: {self._requests} requests run and {len(self._queue)} wait",
                code="overloaded", retry_after_s=RETRY_S,
            )  # fmt: skip
        mine = (weight, asyncio.Event())
        self._queue.append(mine)
        self._empty.clear()
        try:
            await in_time(self._clock, mine[1].wait(), self._max_wait_s)
        except BaseException:
            self._leave(mine)
            raise
        if not mine[1].is_set():
            self._leave(mine)
            raise ApiError(
                503, f"the gateway is busy: no place within {self._max_wait_s:g} s", code="overloaded",
                retry_after_s=RETRY_S,
            )  # fmt: skip

    def _leave(self, mine: tuple[int, asyncio.Event]) -> None:
        if mine[1].is_set():  # let in at the same moment
            self._release(mine[0])
        else:
            self._queue.remove(mine)
            self._admit()

    def _release(self, weight: int) -> None:
        self._taken -= weight
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._taken + self._queue[0][0] <= self._places:
            weight, let_in = self._queue.popleft()
            self._taken += weight
            let_in.set()
        if not self._queue and not self._requests and not self._taken:
            self._empty.set()
