"""A wait with an end, on a clock that is passed in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from swarm.clock import Clock


async def in_time(clock: Clock, work: Awaitable[Any], seconds: float) -> bool:
    """Whether ``work`` ended within ``seconds``; it is cancelled otherwise, and not waited for."""
    task, timer = asyncio.ensure_future(work), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        timer.cancel()
        if not task.done():
            task.cancel()
