"""Flows: where this Peer's Seats send their outputs, and how far that is. For those who watch the swarm; nothing here
steers anything.

A round trip is the time of a small question (Info) over the connection that the Chunks take, so it holds the other
process's event loop as well as the wire: what a Chunk waits for, too. It is asked for only where something flows now,
once every ``EVERY_S``, by this Peer's own clock.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from statistics import median
from weakref import WeakValueDictionary

import structlog

from peer.seat import Seat
from proto.connection import Connection
from proto.info import MAX_FLOWS
from swarm.clock import Clock
from swarm.errors import Fault
from swarm.peerinfo import Flow

EVERY_S = 5.0
ANSWER_S = 2.0
SAMPLES = 5

log = structlog.get_logger("peer.flows")


class Watched(Connection):
    """A Connection that knows whether it is closed: gRPC takes a question on a closed one for a mistake."""

    closed = False

    async def close(self) -> None:
        self.closed = True
        await super().close()


class Flows:
    """``connect`` is for ``peer.neighbours``, which owns what it makes; here it is only borrowed."""

    def __init__(self, peer_id: str, clock: Clock):
        self._peer_id, self._clock = peer_id, clock
        self._connections: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._samples: dict[str, deque[float]] = {}  # by address

    def connect(self, address: str) -> Connection:
        made = self._connections[address] = Watched(address)
        return made

    def read(self, seats: Iterable[Seat]) -> tuple[Flow, ...]:
        """The busiest first."""
        ways = self._ways(seats)
        counts = Counter(peer_id for peer_id, _ in ways.elements())
        addresses = {peer_id: address for peer_id, address in ways if address is not None}
        return tuple(
            Flow(peer_id, number, self._rtt_s(addresses.get(peer_id)))
            for peer_id, number in counts.most_common(MAX_FLOWS)
        )

    async def run(self, seats: Iterable[Seat]) -> None:
        """Measure for ever. ``seats`` is read anew each time."""
        while True:
            try:
                await self.measure(seats)
            except Exception:  # nothing that only looks may end the Peer
                log.exception("measuring failed")
            await self._clock.sleep(EVERY_S)

    async def measure(self, seats: Iterable[Seat]) -> None:
        """One round trip to every Peer that something flows to, one after the other."""
        wanted = {address for _, address in self._ways(seats) if address is not None}
        self._samples = {address: samples for address, samples in self._samples.items() if address in wanted}
        for address in sorted(wanted):
            connection = self._connections.get(address)
            if connection is not None and not connection.closed:
                rtt_s = await self._ask(connection)
                if rtt_s is not None:
                    self._samples.setdefault(address, deque(maxlen=SAMPLES)).append(rtt_s)

    async def _ask(self, connection: Watched) -> float | None:
        begun = self._clock.monotonic()
        try:
            await connection.info(ANSWER_S)
        except Fault as fault:
            log.debug("no round trip", address=connection.address, why=str(fault))
            return None
        except asyncio.CancelledError:  # gRPC's word for a channel that was closed under a question
            task = asyncio.current_task()
            if connection.closed and (task is None or not task.cancelling()):
                return None
            raise
        return self._clock.monotonic() - begun

    def _rtt_s(self, address: str | None) -> float | None:
        samples = self._samples.get(address) if address is not None else None
        return median(samples) if samples else None

    def _ways(self, seats: Iterable[Seat]) -> Counter[tuple[str | None, str | None]]:
        """(peer_id, address) → how many Seats; (None, None): to clients. What this Peer sends itself is no way."""
        ways: Counter[tuple[str | None, str | None]] = Counter()
        for seat in seats:
            if not seat.outflow.moving:
                continue
            if seat.onward is None:
                ways[None, None] += 1
            for onward in (seat.onward, seat.feeding):
                if onward is not None and onward.to.peer_id != self._peer_id:
                    ways[onward.to.peer_id, onward.to.address] += 1
        return ways
