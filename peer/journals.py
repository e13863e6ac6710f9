"""Journals: how much the outputs that this Peer's Seats keep for replay may take, together. What is past the memory's
share goes to files, the longest Journal first; what is past the disk's is forgotten: a repair then begins further
upstream, at the latest with the client's tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from peer.seat import Seat

log = structlog.get_logger("peer.journals")


class Journals:
    """Bytes. ``settle`` after something was kept."""

    def __init__(self, memory_limit: int = 256 << 20, disk_limit: int = 4 << 30):
        self.memory_limit, self.disk_limit = memory_limit, disk_limit
        self.memory = self.disk = 0  # as of the last count
        self._kept = 0  # since then

    def kept(self, num_bytes: int) -> bool:
        """So much more is kept. Whether it is time to ``settle``."""
        self._kept += num_bytes
        return self.memory + self._kept > self.memory_limit

    def settle(self, seats: Iterable[Seat]) -> None:
        """Count again, and move or forget what is too much."""
        held = sorted(seats, key=lambda seat: -seat.outflow.rows.size)
        self._count(held)
        for seat in held:
            if self.memory <= self.memory_limit * 3 // 4:  # or the next Chunk would have everybody counted again
                break
            before = seat.outflow.rows.size
            try:
                seat.outflow.rows.spill()
            except OSError as error:
                log.warning("journals cannot go to disk", why=str(error))
            if seat.outflow.rows.size == before:
                seat.outflow.shed()
            self.memory -= before - seat.outflow.rows.size
        self._count(held)
        for seat in sorted(held, key=lambda seat: -seat.outflow.rows.spilled):
            if self.disk <= self.disk_limit:
                break
            self.disk -= seat.outflow.rows.spilled
            seat.outflow.shed()
        self._count(held)

    def _count(self, seats: Iterable[Seat]) -> None:
        self._kept = 0
        self.memory = sum(seat.outflow.rows.size for seat in seats)
        self.disk = sum(seat.outflow.rows.spilled for seat in seats)
