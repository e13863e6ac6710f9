"""Watcher: keeps the client's picture of the swarm fresh: who serves the model, how far away they are, who is banned.

Knows no gRPC: who probes peers is passed in. When the directory cannot be reached, the last picture stays, even
past the expiry of what is in it: the peers may well be alive, and a dead one is found out by the Session that tries it.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from client.bans import Bans
from client.deadline import in_time
from dht.directory import Directory
from swarm.clock import Clock
from swarm.errors import ShoalError, SwarmError, SwarmUnreachable
from swarm.peerinfo import ModelRef, PeerInfo
from swarm.view import SwarmView

log = logging.getLogger("shoal.watcher")

EVERY_S = 3.0
PROBE_EVERY_S = 15.0  # the same peer
PROBE_TIMEOUT_S = 2.0
FIRST_PROBES_S = 0.5  # how long the first view waits for latencies
PROBES_AT_ONCE = 8
PROBES_A_ROUND = 32  # those waiting longest come first
SAMPLES = 5

UNKNOWN_RTT_S = 0.01  # optimistic, so that a newcomer is tried
LOST_RTT_S = 10.0  # of a peer that did not answer its last probe: taken only when there is nobody else


class Prober(Protocol):
    """What ``client.links.Links`` offers to a Watcher."""

    async def probe(self, peer: PeerInfo) -> float:
        """Seconds that something small takes, there and back. May raise any ShoalError or OSError."""
        ...

    def keep(self, peers: Iterable[PeerInfo]) -> None:
        """``peers`` are all there are now; what is kept for others is of no more use."""
        ...


class Watcher:
    """Looks at the swarm of ``model`` every ``every_s`` in a task of its own, from ``start`` or ``async with`` on.

    ``prober`` measures how far away peers are, and hears who has gone. ``close`` ends everything.
    """

    def __init__(
        self,
        directory: Directory,
        model: ModelRef,
        prober: Prober,
        clock: Clock,
        *,
        every_s: float = EVERY_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ):
        self._directory, self._model, self._prober, self._clock = directory, model, prober, clock
        self._every_s, self._probe_timeout_s = every_s, probe_timeout_s
        self._view = SwarmView(model, (), clock.wall())
        self._trouble: SwarmError | None = None  # why the last look failed
        self._seen = asyncio.Event()
        self._bans = Bans(clock)
        self._latencies: dict[tuple[str, int], _Latency] = {}
        self._runner: asyncio.Task[None] | None = None
        self._look: asyncio.Task[None] | None = None
        self._round: asyncio.Task[None] | None = None

    # The picture.

    @property
    def view(self) -> SwarmView:
        """The last picture; empty before the first."""
        return self._view

    @property
    def banned(self) -> frozenset[str]:
        """The peer_ids in ``view`` that are banned at this moment."""
        return frozenset(p.peer_id for p in self._view.peers if self._bans.holds(p))

    def rtt_s(self, peer: PeerInfo) -> float:
        """Round trip to ``peer``: the median of the last few probes, or a guess."""
        latency = self._latencies.get((peer.peer_id, peer.instance))
        return UNKNOWN_RTT_S if latency is None else latency.rtt_s

    def ban(self, peer: PeerInfo, reason: str = "") -> None:
        """Leaves ``peer`` out for 30 s, longer at every further time. A restart, or ``forgive``, ends that."""
        ban = self._bans.add(peer, reason)
        log.debug("%s is banned, strike %d: %s", peer, ban.strikes, ban.reason)

    def forgive(self, peer: PeerInfo) -> None:
        """``peer`` did real work: what it did wrong before is forgotten. (An answered probe proves no such thing.)"""
        self._bans.forgive(peer)

    async def first_view(self, timeout_s: float) -> SwarmView:
        """Waits for the first picture, and a moment for latencies. Raises SwarmUnreachable when none comes in time."""
        self.start()
        if not await in_time(self._clock, self._seen.wait(), timeout_s):
            why = f": {self._trouble}" if self._trouble is not None else ""
            raise SwarmUnreachable(f"no picture of the swarm within {timeout_s:g} s{why}")
        if self._round is not None:
            await in_time(self._clock, asyncio.shield(self._round), min(FIRST_PROBES_S, timeout_s))
        return self._view

    async def refresh(self) -> None:
        """Looks now; callers at the same time share one look. When that fails, ``view`` stays as it was."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._take_look(), name="look at the swarm")
        await asyncio.shield(self._look)

    # Its upkeep.

    def start(self) -> None:
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=f"watch {self._model.name}")

    async def close(self) -> None:
        tasks = [t for t in (self._runner, self._look, self._round) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Watcher:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self) -> None:
        while True:
            await self.refresh()
            await self._clock.sleep(self._every_s)

    async def _take_look(self) -> None:
        try:
            view = await self._directory.view(self._model)
        except SwarmError as error:
            if self._trouble is None:
                log.warning("cannot look at the swarm now: %s", error)
            self._trouble = error
            return
        self._view, self._trouble = view, None
        self._prober.keep(view.peers)
        living = {(p.peer_id, p.instance) for p in view.peers}
        self._latencies = {key: latency for key, latency in self._latencies.items() if key in living}
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._probe_all(self._due(view.peers)), name="probe the swarm")
        self._seen.set()

    def _due(self, peers: Iterable[PeerInfo]) -> list[PeerInfo]:
        """Who should be probed now: never asked first, then those not asked for the longest time."""
        now = self._clock.monotonic()

        def asked_at(peer: PeerInfo) -> float:
            latency = self._latencies.get((peer.peer_id, peer.instance))
            return float("-inf") if latency is None else latency.asked_at

        due = [p for p in peers if now - asked_at(p) >= PROBE_EVERY_S]
        return sorted(due, key=asked_at)[:PROBES_A_ROUND]

    async def _probe_all(self, peers: list[PeerInfo]) -> None:
        slots = asyncio.Semaphore(PROBES_AT_ONCE)

        async def probe_in_turn(peer: PeerInfo) -> None:
            async with slots:
                await self._probe_one(peer)

        async with asyncio.TaskGroup() as group:
            for peer in peers:
                group.create_task(probe_in_turn(peer))

    async def _probe_one(self, peer: PeerInfo) -> None:
        key = (peer.peer_id, peer.instance)
        known = self._latencies.get(key)
        rtt_s = await self._ask(peer)
        if known is None and rtt_s is not None:
            rtt_s = await self._ask(peer)  # the first answer paid for the connection
        latency = self._latencies.setdefault(key, _Latency())
        latency.note(rtt_s, self._clock.monotonic())

    async def _ask(self, peer: PeerInfo) -> float | None:
        asking = asyncio.ensure_future(self._prober.probe(peer))
        try:
            if await in_time(self._clock, asking, self._probe_timeout_s):
                return asking.result()
            log.debug("%s did not answer a probe within %g s", peer, self._probe_timeout_s)
        except (ShoalError, OSError) as error:
            log.debug("%s did not answer a probe: %s", peer, error)
        return None


class _Latency:
    """The last few round trips to one instance of a Peer."""

    def __init__(self) -> None:
        self.asked_at = float("-inf")  # monotonic
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._lost = False

    def note(self, rtt_s: float | None, now: float) -> None:
        self.asked_at, self._lost = now, rtt_s is None
        if rtt_s is not None:
            self._samples.append(rtt_s)

    @property
    def rtt_s(self) -> float:
        return LOST_RTT_S if self._lost else statistics.median(self._samples)
