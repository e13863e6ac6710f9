"""Doors: the join addresses of a swarm, knocked at when we come and again whenever one of them is not a neighbour.

Knows when each was tried last and how long to wait for whom; how a door is reached is passed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dht.records import CLOCK_SKEW_S
from swarm.clock import Clock
from swarm.errors import SwarmUnreachable

log = logging.getLogger("shoal.dht")

OTHERS_S = 1.0  # once one door has opened, how long the others are waited for
KNOCK_EVERY_S = 15.0
LONELY_KNOCK_S = 2.0  # when there is no neighbour at all
KNOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """A join address: a multiaddr as text, and taken apart into what the node wants of it."""

    text: str
    peer_id: object
    address: bytes
    host: str
    port: int

    async def is_open(self, timeout_s: float) -> bool:
        """Whether anything accepts connections there. Asked before libp2p tries: it would shun an address that failed
        for ever longer, up to five minutes, and miss the swarm's first Peer when that comes back."""
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError as error:  # TimeoutError is one
            log.debug("nobody at %s: %r", self.text, error)
            return False
        writer.close()
        return True


class Doors:
    """``reach`` makes a door a neighbour, answers False when it is shut, and raises SwarmUnreachable to say why.

    ``alone``: nobody answered when we came, and we began without them; whoever uses this says when that is over.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        clock: Clock,
        is_neighbour: Callable[[Door], bool],
        reach: Callable[[Door], Awaitable[bool]],
    ):
        self._doors, self._clock, self._is_neighbour, self._reach = tuple(doors), clock, is_neighbour, reach
        self._tried_at: dict[str, float] = {}
        self._knocks: set[asyncio.Task[bool]] = set()
        self.alone = False

    def __len__(self) -> int:
        return len(self._doors)

    def __str__(self) -> str:
        return ", ".join(door.text for door in self._doors)

    def knock(self, every_s: float = KNOCK_EVERY_S) -> list[asyncio.Task[bool]]:
        """Starts to reach every door that is no neighbour and was not tried for ``every_s``; the tasks need no care."""
        now = self._clock.monotonic()
        tasks: list[asyncio.Task[bool]] = []
        for door in self._doors:
            tried_at = self._tried_at.get(door.text)
            if self._is_neighbour(door) or (tried_at is not None and now < tried_at + every_s):
                continue
            self._tried_at[door.text] = now
            task = asyncio.create_task(self._knock_at(door), name=f"knock at {door.text}")
            self._knocks.add(task)
            task.add_done_callback(self._forget)
            tasks.append(task)
        return tasks

    async def enter(self, timeout_s: float, found_after_s: float | None = None) -> None:
        """Knocks at all doors and waits for one to open, then a moment for the others. Raises SwarmUnreachable.

        ``found_after_s``: where nobody answers, knock on for so long and then be ``alone`` instead. So peers that name
        each other come up in any order, also after all of them were down. A door that opens and says why we may not
        come in is somebody: that is raised at once.
        """
        give_up_at = self._clock.monotonic() + (found_after_s or 0.0)
        while not await self._one_opens(timeout_s):
            left = give_up_at - self._clock.monotonic()
            if left <= 0:
                break
            await self._clock.sleep(min(LONELY_KNOCK_S, left))
            self.open_again()
        else:
            return
        if found_after_s is None:
            raise SwarmUnreachable(f"cannot join through {self}; nobody answers there")
        log.warning("nobody answers at %s; beginning without them", self)
        self.alone = True

    async def _one_opens(self, timeout_s: float) -> bool:
        waiting = set(self.knock())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        opened, reasons = False, ""
        while waiting and (left := deadline - loop.time()) > 0:
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                opened = opened or (error is None and task.result())
                reasons += f"; {error}" if error is not None else ""
            if opened:
                deadline = min(deadline, loop.time() + OTHERS_S)
        if not opened:
            for task in waiting:
                task.cancel()
            if reasons:
                raise SwarmUnreachable(f"cannot join through {self}{reasons}")
        return opened

    def open_again(self) -> None:
        """Forgets what was tried: the next ``knock`` goes to all doors."""
        self._tried_at.clear()

    async def close(self) -> None:
        for task in self._knocks:
            task.cancel()
        await asyncio.gather(*self._knocks, return_exceptions=True)

    async def _knock_at(self, door: Door) -> bool:
        async with asyncio.timeout(KNOCK_TIMEOUT_S):
            return await self._reach(door)

    def _forget(self, task: asyncio.Task[bool]) -> None:
        self._knocks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("%s: %s", task.get_name(), task.exception())


def explain(error: Exception) -> str:
    """What hivemind means when one that opened will not have us."""
    if "local time" in str(error):
        return f"clocks differ by more than {CLOCK_SKEW_S:g} s: set this machine's clock"
    return "it cannot reach this machine back: check firewall, --dht-listen and --announce"
