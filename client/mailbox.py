"""Mailbox: what all Hops of one Session have to say, in the order in which it came. One reader."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from proto.messages import Entry
from proto.outbox import entry_bytes
from swarm.errors import Fault, Overflow, Timeout

if TYPE_CHECKING:
    from client.lane import Lane

MAX_ENTRIES = 8192  # a ring runs ahead of a slow reader, a few dozen bytes a token
MAX_BYTES = 256 << 20

Mail = tuple["Lane", Entry | Fault]


class Mailbox:
    """``put`` never waits. A Hop that fills it is cut off with Overflow."""

    def __init__(self) -> None:
        self._mail: deque[tuple[Mail, int]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._mail)

    def put(self, lane: Lane, item: Entry | Fault) -> None:
        size = 0 if isinstance(item, Fault) else entry_bytes(item)
        if not isinstance(item, Fault) and (len(self._mail) >= MAX_ENTRIES or self._bytes + size > MAX_BYTES):
            bound = f"{MAX_ENTRIES} entries, {MAX_BYTES >> 20} MiB"
            item, size = Overflow(f"{lane.hop} sent more than the session reads (bound: {bound})"), 0
        self._mail.append(((lane, item), size))
        self._bytes += size
        self._ready.set()

    def drop(self, lane: Lane) -> None:
        """Forget what came from ``lane``, whose Hop is lost."""
        self._mail = deque(each for each in self._mail if each[0][0] is not lane)
        self._bytes = sum(size for _, size in self._mail)

    async def get(self, timeout_s: float) -> Mail:
        """The next item. Raises Timeout. One that is cancelled loses nothing."""
        if not self._mail:
            try:
                async with asyncio.timeout(timeout_s):
                    while not self._mail:
                        self._ready.clear()
                        await self._ready.wait()
            except TimeoutError:
                raise Timeout(f"nothing came within {timeout_s:g} s") from None
        mail, size = self._mail.popleft()
        self._bytes -= size
        return mail
