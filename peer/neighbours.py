"""Neighbours: this Peer's Links to the Peers that come after it on somebody's Route. The only place of a Peer that
dials.

One Link to each, with the entries of all Sessions on it; dialled when it is first wanted, closed when nobody has used
it for a while. Sending never waits: what is meant for a Peer that is being dialled waits in a short queue. When a Link
cannot be had or breaks, everybody who uses it hears so once, and decides nothing here: their Sessions' clients do.

A client names the Peer that it wants to be sent to. Only Peers that the swarm announces are dialled, so that nobody
can send this one knocking on strangers' doors.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from peer.meter import Meter, Side
from proto.connection import Connection
from proto.limits import Limits
from proto.link import Ear, Link
from proto.messages import Entry, Hello, Neighbour
from swarm.clock import Clock
from swarm.errors import BadRequest, DeadLink, Fault, Overflow, SwarmError, WrongModel

LOOK_UP_TIMEOUT_S = 0.3  # to hear whether the swarm announces a Peer, where that is not known already …
TRUST_EVERY_S = 10.0  # … else the client is taken at its word, this often
DIAL_TIMEOUT_S = 2.0
FAILED_S = 5.0  # for how long a Peer that could not be reached is not tried again
IDLE_S = 120.0  # a Link that nobody listens on for this long is closed
MAX_WAITING = 1024  # entries for a Peer that is being dialled
MAX_ROADS = 256

log = structlog.get_logger("peer.neighbours")

Known = Callable[[Neighbour], Awaitable[bool]]


@dataclass(slots=True)
class _Road:
    """The way to one Peer. ``waiting`` and ``ears`` are for while it is dialled; then the Link has them."""

    used_at: float
    dialling: asyncio.Task[None] | None = None
    connection: Connection | None = None
    link: Link | None = None
    failure: Fault | None = None
    waiting: list[Entry] = field(default_factory=lambda: list[Entry]())
    ears: dict[bytes, Ear] = field(default_factory=lambda: dict[bytes, Ear]())

    @property
    def over(self) -> bool:
        return self.failure is not None or (self.link is not None and not self.link.alive)


class Neighbours:
    """``known`` says whether the swarm announces a Peer at an address. This Peer itself is none: the desk knows that
    way.
    """

    def __init__(
        self, hello: Hello, limits: Limits, known: Known, clock: Clock,
        *, connect: Callable[[str], Connection] = Connection, meter: Meter | None = None,
    ):  # fmt: skip
        self._hello, self._limits, self._known, self._clock = hello, limits, known, clock
        self._trusted_at = -math.inf
        self._connect, self._meter = connect, meter or Meter()
        self._roads: dict[tuple[str, str], _Road] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Links that are up."""
        return sum(road.link is not None and road.link.alive for road in self._roads.values())

    def send(self, to: Neighbour, entry: Entry, ear: Ear) -> None:
        """Queue ``entry`` for ``to``; ``ear``, the same one for every entry, hears what comes back for its Seat. Never
        waits and never raises: what goes wrong the ear hears.
        """
        try:
            road = self._road(to)
            known = road.ears.get(to.seat) if road.link is None else road.link.listener(to.seat)
            if known is not None and known is not ear:
                ear.fail(BadRequest("another seat of this peer sends to that one already"))
                return
            if road.link is not None:
                road.link.attach(to.seat, ear)
                road.link.send(entry)
            elif len(road.waiting) < MAX_WAITING:
                road.ears[to.seat] = ear
                road.waiting.append(entry)
            else:
                raise Overflow(f"{MAX_WAITING} entries wait for {to.address} to be dialled")
        except Fault as fault:
            self.forget(to)
            ear.fail(fault)

    def forget(self, to: Neighbour) -> None:
        """Nobody listens for ``to``'s Seat any more."""
        road = self._roads.get((to.peer_id, to.address))
        if road is not None:
            road.ears.pop(to.seat, None)
            if road.link is not None:
                road.link.detach(to.seat)

    def sweep(self) -> None:
        """Close what nobody has used for a while, and forget what broke or could not be reached."""
        now = self._clock.monotonic()
        for key, road in list(self._roads.items()):
            idle_s = now - road.used_at
            unused = road.dialling is None and (road.link is None or not road.link.listeners) and idle_s >= IDLE_S
            if unused or (road.over and idle_s >= FAILED_S):
                self._shut(self._roads.pop(key))

    def _road(self, to: Neighbour) -> _Road:
        """The way to ``to``: up, being dialled, or begun now. Raises why there is none."""
        key, now = (to.peer_id, to.address), self._clock.monotonic()
        road = self._roads.get(key)
        if road is not None and road.over and (road.failure is None or now - road.used_at >= FAILED_S):
            self._shut(self._roads.pop(key))
            road = None
        if road is None:
            if len(self._roads) >= MAX_ROADS:
                self.sweep()
            if len(self._roads) >= MAX_ROADS:
                raise Overflow(f"this peer has {MAX_ROADS} neighbours, no more than that may be")
            road = self._roads[key] = _Road(now)
            road.dialling = asyncio.create_task(self._dial(to, road))
        if road.failure is not None:
            raise copy.copy(road.failure)
        road.used_at = now
        return road

    async def close(self) -> None:
        """End every Link."""
        roads, self._roads = list(self._roads.values()), {}
        for road in roads:
            self._shut(road)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _dial(self, to: Neighbour, road: _Road) -> None:
        try:
            road.link = await self._reach(to, road)
        except Fault as fault:
            self._lost(to, road, fault)
        except SwarmError as error:  # nobody says whom the swarm announces
            self._lost(to, road, DeadLink(f"{to.address} is not known to be a peer: {error}"))
        except Exception as error:  # a mistake of ours must not leave Sessions waiting
            log.exception("dialling failed", peer=to.peer_id[:8])
            self._lost(to, road, DeadLink(f"{to.address}: dialling failed ({type(error).__name__})"))
        else:
            waiting, road.waiting, ears, road.ears = road.waiting, [], road.ears, {}
            for entry in waiting:
                ear = ears.get(entry.session)
                if ear is not None:
                    self.send(replace(to, seat=entry.session), entry, ear)
        finally:
            road.dialling = None

    async def _reach(self, to: Neighbour, road: _Road) -> Link:
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
                announced = await self._known(to)
        except TimeoutError:  # with a frozen node in the DHT that takes seconds, which a repair does not have
            announced = self._takes_on_trust()
        if not announced:
            raise BadRequest(f"the swarm announces no peer {to.peer_id[:8]} at {to.address}")
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                road.connection = self._connect(to.address)
                link = await road.connection.link(self._hello, self._limits, DIAL_TIMEOUT_S, self._count)
        except TimeoutError:
            raise DeadLink(f"{to.address} could not be reached within {DIAL_TIMEOUT_S:g} s") from None
        if link.peer_id != to.peer_id:
            await link.close()
            raise WrongModel(f"{to.address} is peer {(link.peer_id or 'unknown')[:8]}, {to.peer_id[:8]} was expected")
        return link

    def _takes_on_trust(self) -> bool:
        """Whether to dial somebody of whom the swarm has not said anything yet. Seldom: nobody is to use this Peer for
        knocking on strangers' doors.
        """
        now = self._clock.monotonic()
        if now - self._trusted_at < TRUST_EVERY_S:
            return False
        self._trusted_at = now
        return True

    def _count(self, sent: int, received: int) -> None:
        self._meter.sent(Side.PEER, sent)
        self._meter.received(Side.PEER, received)

    def _lost(self, to: Neighbour, road: _Road, fault: Fault) -> None:
        log.info("neighbour not reached", peer=to.peer_id[:8], address=to.address, why=str(fault))
        road.failure, road.used_at = fault, self._clock.monotonic()
        if isinstance(fault, BadRequest):  # nobody is there: not worth a place in the book
            self._roads.pop((to.peer_id, to.address), None)
        road.waiting.clear()
        ears, road.ears = list(road.ears.values()), {}
        for ear in ears:
            ear.fail(copy.copy(fault))

    def _shut(self, road: _Road) -> None:
        """Close in the background; ``close`` waits for it."""
        if road.dialling is not None:
            road.dialling.cancel()
        if road.connection is not None:
            task = asyncio.create_task(road.connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
