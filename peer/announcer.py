"""Announcer: keeps the Peer's record in the directory alive and fresh, and takes it back in the end.

Knows expiries and retries; what the Peer says of itself comes from ``describe``, asked anew each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dht.directory import Directory
from dht.records import TTL_S
from swarm.clock import Clock
from swarm.errors import ShoalError
from swarm.peerinfo import PeerInfo

log = logging.getLogger("shoal.announcer")

REFRESH_S = 10.0
FIRST_RETRY_S = 1.0  # doubled with every failure in a row, up to the refresh


class Announcer:
    """``describe(expires_at)`` gives the PeerInfo of now. One publication at a time, and none after ``withdraw``."""

    def __init__(
        self,
        directory: Directory,
        describe: Callable[[float], PeerInfo],
        clock: Clock,
        every_s: float = REFRESH_S,
        ttl_s: float = TTL_S,
    ):
        self._directory, self._describe, self._clock = directory, describe, clock
        self._every_s, self._ttl_s = every_s, ttl_s
        self._turn = asyncio.Lock()
        self._last: PeerInfo | None = None  # what was published, or may have been
        self._withdrawn = False

    async def run(self) -> None:
        """Publishes at once and then every ``every_s``, sooner after a failure. Ends after ``withdraw``."""
        retry_s = FIRST_RETRY_S
        while not self._withdrawn:
            if await self.announce_now():
                wait_s, retry_s = self._every_s, FIRST_RETRY_S
            else:
                wait_s, retry_s = min(retry_s, self._every_s), 2 * retry_s
            await self._clock.sleep(wait_s)

    async def announce_now(self) -> bool:
        """Publishes what is true now: for a change of state that others should not wait for. False when that failed."""
        async with self._turn:
            if self._withdrawn:
                return False
            expires_at = self._clock.wall() + self._ttl_s
            if self._last is not None:  # also when the wall clock was set back
                expires_at = max(expires_at, self._last.expires_at + 0.001)
            self._last = info = self._describe(expires_at)
            try:
                await self._directory.publish(info)
            except ShoalError as error:
                log.warning("cannot announce %s, will try again: %s", info, error)
                return False
            return True

    async def announce_until(self, leaving: asyncio.Event) -> bool:
        """Tries until the swarm has taken note, or until ``leaving`` is set, which is False whatever was published."""
        announcing = asyncio.create_task(self._insist())
        told = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait((announcing, told), return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()  # raises what it failed with
            return not leaving.is_set()
        finally:
            announcing.cancel()
            told.cancel()

    async def withdraw(self) -> None:
        """Tells the swarm that this Peer is gone, once. If that fails, its record expires by itself."""
        self._withdrawn = True
        async with self._turn:
            info, self._last = self._last, None
            if info is None:
                return
            try:
                await self._directory.withdraw(info)
            except ShoalError as error:
                log.warning("cannot withdraw %s, its record expires in %g s: %s", info, self._ttl_s, error)

    async def _insist(self) -> None:
        while not await self.announce_now():
            await self._clock.sleep(FIRST_RETRY_S)
