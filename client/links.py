"""Links: one Link to every peer that is talked to, shared by all Sessions of a client, opened again when it died.

The only place of the client that dials. Sessions decide what a dead Link means; here it is only replaced when asked
for.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from client.config import ClientConfig
from proto.connection import Connection
from proto.limits import Limits
from proto.link import Link
from proto.messages import AssetRef, Hello, Info
from swarm.clock import Clock
from swarm.errors import DeadLink, Fault, WrongModel
from swarm.peerinfo import PeerInfo
from swarm.version import software_version

APART_S = 30.0  # before two peers are given another chance to reach each other

Key = tuple[str, int, str]  # peer_id, instance, address: a restarted peer is another one


@dataclass(slots=True)
class _Line:
    connection: Connection
    link: Link | None = None
    dialling: asyncio.Task[Link] | None = None
    questions: int = 0  # under way
    shut: bool = False

    @property
    def idle(self) -> bool:
        return self.dialling is None and not self.questions and (self.link is None or not self.link.alive)

    @contextmanager
    def question(self) -> Generator[Connection]:
        """Whoever waits while it is shut hears a Fault and is not taken for cancelled, as gRPC would have it."""
        self.questions += 1
        try:
            yield self.connection
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.shut and (task is None or not task.cancelling()):
                raise DeadLink(f"{self.connection.address}: the connection was given up on this side") from None
            raise
        finally:
            self.questions -= 1


class Links:
    """Lives on one event loop. ``close`` closes everything that was dialled."""

    def __init__(self, config: ClientConfig, clock: Clock):
        self.limits = Limits()  # of what peers may send; tightened once the model is known
        self._config, self._clock = config, clock
        self._lines: dict[Key, _Line] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._apart: dict[tuple[str, str], float] = {}
        self._hello = Hello(software_version(), client_id=secrets.token_hex(16))

    def __len__(self) -> int:
        """Channels that are kept."""
        return len(self._lines)

    async def get(self, peer: PeerInfo) -> Link:
        """A live Link to ``peer``. Callers share one dialling; one that is cancelled does not disturb the others."""
        line = self._line(peer)
        if line.link is not None and not line.link.alive:
            self._drop(peer, line)  # its channel too: that may be waiting out a back-off
            line = self._line(peer)
        if line.link is not None:
            return line.link
        if line.dialling is None:
            line.dialling = asyncio.create_task(self._dial(line, peer))
            line.dialling.add_done_callback(_heard)
        with line.question():
            return await asyncio.shield(line.dialling)

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info:
        """What ``peer`` says of itself now. Raises a Fault, WrongModel when somebody else answers at its address."""
        line = self._line(peer)
        try:
            with line.question() as connection:
                info = await connection.info(timeout_s)
        except Fault:
            if line.idle:
                self._drop(peer, line)  # nobody talks to it: what is kept is for the living
            raise
        if (info.peer.peer_id, info.peer.model.fingerprint) != (peer.peer_id, peer.model.fingerprint):
            raise WrongModel(
                f"{peer.address} is {info.peer} of {info.peer.model.name}, {peer} of {peer.model.name} was expected"
            )
        return info

    async def probe(self, peer: PeerInfo) -> float:
        """Seconds that a small question to ``peer`` takes, there and back. Raises a Fault."""
        begun = self._clock.monotonic()
        await self.info(peer, self._config.probe_timeout_s)
        return self._clock.monotonic() - begun

    async def asset(self, peer: PeerInfo, ref: AssetRef) -> bytes:
        with self._line(peer).question() as connection:
            return await connection.asset(ref)

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        """What ``peer`` says of itself within the probe's time: late is then busy. None when it does not: frozen."""
        try:
            return (await self.info(peer, self._config.probe_timeout_s)).peer
        except Fault:
            return None

    def apart(self, one: PeerInfo, other: PeerInfo) -> bool:
        """Whether ``one`` was lately found not to reach ``other``."""
        return self._clock.monotonic() < self._apart.get((one.peer_id, other.peer_id), -math.inf)

    def set_apart(self, one: PeerInfo, other: PeerInfo) -> None:
        """For a while, Sessions carry between these two themselves."""
        now = self._clock.monotonic()
        self._apart = {pair: until for pair, until in self._apart.items() if now < until}
        self._apart[one.peer_id, other.peer_id] = now + APART_S

    def keep(self, peers: Iterable[PeerInfo]) -> None:
        """Close the channels to all but ``peers``, where nobody uses them: peers come and go, file descriptors stay."""
        present = {_key(peer) for peer in peers}
        for key in [key for key, line in self._lines.items() if key not in present and line.idle]:
            self._shut(self._lines.pop(key))

    async def close(self) -> None:
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            self._shut(line)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _line(self, peer: PeerInfo) -> _Line:
        key = _key(peer)
        if key not in self._lines:
            for old in [k for k in self._lines if k[0] == peer.peer_id]:  # an earlier life of it
                self._shut(self._lines.pop(old))
            self._lines[key] = _Line(Connection(self._config.addresses.get(peer.address, peer.address)))
        return self._lines[key]

    def _drop(self, peer: PeerInfo, line: _Line) -> None:
        key = _key(peer)
        if self._lines.get(key) is line:
            self._shut(self._lines.pop(key))

    async def _dial(self, line: _Line, peer: PeerInfo) -> Link:
        try:
            link = await line.connection.link(self._hello, self.limits, self._config.dial_timeout_s)
            if link.peer_id != peer.peer_id:
                await link.close()
                raise WrongModel(f"{peer.address} is peer {(link.peer_id or 'unknown')[:8]}, {peer} was expected")
            line.link = link
            return link
        except Fault:
            self._drop(peer, line)
            raise
        finally:
            line.dialling = None

    def _shut(self, line: _Line) -> None:
        """Close in the background; ``close`` waits for it."""
        line.shut = True
        if line.dialling is not None and line.dialling is not asyncio.current_task():
            line.dialling.cancel()
        task = asyncio.create_task(line.connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _key(peer: PeerInfo) -> Key:
    return peer.peer_id, peer.instance, peer.address


def _heard(task: asyncio.Task[Link]) -> None:
    """A dialling whose callers have all gone away must not complain about its own failure."""
    if not task.cancelled():
        task.exception()
