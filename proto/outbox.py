"""Outbox: what waits to be written to one Link. The one way out, for clients and peers alike.

Nothing here waits for a slow reader but the one task that writes: ``put`` never blocks. A Session that lets too much
pile up gets Overflow, and only that Session. Knows no gRPC: ``frames()`` hands out Frames, somebody else writes them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from proto import frames
from proto import shoal_pb2 as pb
from proto.messages import Advance, Chunk, Close, Entry, Fork, Hello, Kept, Open, Opened, Path, Token, Trouble
from swarm.errors import Fault, Overflow

DECODE_BYTES = 64 << 10  # an entry up to this size counts as a decode step's; larger ones are prefill
CONTROL_RESERVE = 16  # control entries that a Session may have queued beyond its bound
MAX_FRAME_ENTRIES = 1024  # well below what a receiver takes (limits.Limits.max_entries)

_OVERHEAD = 64  # bytes of an entry apart from its payload, generously
_CONTROL = (Hello, Opened, Advance, Path, Fork, Trouble, Close, Fault)


@dataclass(slots=True)
class _Queue:
    """One Session's entries with their sizes, oldest first."""

    items: deque[tuple[Entry, int]] = field(default_factory=lambda: deque[tuple[Entry, int]]())
    size: int = 0  # bytes


class Outbox:
    """Entries in order within a Session; between Sessions, small ones first. One event loop, one reader."""

    def __init__(
        self,
        max_entries_per_session: int = 256,
        max_bytes_per_session: int = 64 << 20,
        max_frame_bytes: int = 1 << 20,
        max_sessions: int = 4096,
    ):
        self._max_entries, self._max_bytes = max_entries_per_session, max_bytes_per_session
        self._max_frame_bytes, self._max_sessions = max_frame_bytes, max_sessions
        self._queues: dict[bytes, _Queue] = {}  # only non-empty ones; the Session served longest ago comes first
        self._wake = asyncio.Event()
        self._closed = False
        self._prefill_waited = False  # a prefill entry had no room in the last Frame

    def put(self, entry: Entry) -> None:
        """Queues an entry. Raises Overflow when the Session has too much unread output; nothing is queued then.

        Control entries (Opened, Path, Fault and the like) have ``CONTROL_RESERVE`` places of their own, so a
        Session that overflowed can still be told so. After ``close`` entries are dropped: nobody would read them.
        """
        if self._closed:
            return
        size = entry_bytes(entry)
        queue = self._queues.get(entry.session)
        if queue is None:
            if len(self._queues) >= self._max_sessions:
                raise Overflow(f"{len(self._queues)} sessions of this link wait for a reader, no more than that may")
            queue = _Queue()
        count, total = len(queue.items) + 1, queue.size + size
        if isinstance(entry.body, _CONTROL):
            if count > self._max_entries + CONTROL_RESERVE:
                raise Overflow(f"{count} entries wait for a reader, at most {self._max_entries + CONTROL_RESERVE} may")
        elif count > self._max_entries:
            raise Overflow(f"{count} entries of the session wait for a reader, at most {self._max_entries} may")
        elif total > self._max_bytes:
            raise Overflow(f"{total} bytes of the session wait for a reader, at most {self._max_bytes} may")
        queue.items.append((entry, size))
        queue.size = total
        self._queues[entry.session] = queue
        self._wake.set()

    def drop(self, session: bytes) -> None:
        """Forgets what a Session has queued."""
        self._queues.pop(session, None)

    def close(self) -> None:
        """Lets ``frames()`` hand out what is queued and then end."""
        self._closed = True
        self._wake.set()

    async def frames(self) -> AsyncIterator[pb.Frame]:
        """Waits until something is ready, then hands out everything that fits into one Frame; again, until closed."""
        while True:
            if self._queues:
                yield frames.encode(self._take())
            elif self._closed:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _take(self) -> list[Entry]:
        """The next Frame's entries: decode-size ones of all Sessions, then prefill while there is room.

        A prefill entry without room is sent in the next Frame whatever comes, alone if it is larger than a Frame.
        """
        batch: list[Entry] = []
        room = self._max_frame_bytes
        prefill_first = self._prefill_waited
        self._prefill_waited = False
        for prefill in (True, False) if prefill_first else (False, True):
            for session in list(self._queues):
                queue = self._queues[session]
                taken = False
                while queue.items:
                    entry, size = queue.items[0]
                    if (size > DECODE_BYTES) != prefill:
                        break
                    if batch and (size > room or len(batch) == MAX_FRAME_ENTRIES):
                        self._prefill_waited |= prefill
                        break
                    queue.items.popleft()
                    queue.size -= size
                    room -= size
                    batch.append(entry)
                    taken = True
                    if prefill:
                        break  # one each: a long prompt does not hold up its neighbour's
                if taken:
                    del self._queues[session]
                    if queue.items:
                        self._queues[session] = queue  # to the back
        return batch


def entry_bytes(entry: Entry) -> int:
    """About how many bytes an entry takes on the wire; never less than it does."""
    match entry.body:
        case Chunk(hidden=hidden, token_ids=token_ids):
            payload = (len(hidden.data) if hidden else 0) + 5 * (len(token_ids or ()) + len(entry.body.drafts))
            payload += 24 * len(entry.body.timings)
        case Open(history=history):
            payload = 256 + 5 * (len(history) + len(entry.body.stop_token_ids)) + 18 * len(entry.body.prefix)
        case Token(top=top, timings=timings):
            payload = 16 * len(top) + 24 * len(timings)
        case Kept(digests=digests):
            payload = 16 + 18 * len(digests)
        case Path():
            payload = 1024
        case Fault() | Trouble():
            payload = 1024
        case _:
            payload = 128
    return _OVERHEAD + payload
