"""A Scout for tests: peers that are only announced, and a clock that whoever sleeps on it moves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from swarm.clock import VirtualClock
from swarm.peerinfo import PeerInfo
from swarm.view import SwarmView
from tests.support.hash_engine import MODEL


class EagerClock(VirtualClock):
    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


class Announced:
    """All equally near. Bans last until they are forgiven."""

    def __init__(self, *infos: PeerInfo):
        self.clock = EagerClock(wall=0.0)
        self.infos = {info.peer_id: info for info in infos}
        self.hidden: set[str] = set()  # not in the view
        self.banned: set[str] = set()

    @property
    def view(self) -> SwarmView:
        return SwarmView.of(MODEL, [info for name, info in self.infos.items() if name not in self.hidden], 0.0)

    def restart(self, peer_id: str) -> None:
        info = self.infos[peer_id]
        self.infos[peer_id] = replace(info, instance=info.instance + 1)

    def rtt_s(self, peer: PeerInfo) -> float:
        return 0.01

    def ban(self, peer: PeerInfo, reason: str = "") -> None:
        self.banned.add(peer.peer_id)

    def forgive(self, peer: PeerInfo) -> None:
        self.banned.discard(peer.peer_id)

    async def refresh(self) -> None:
        await asyncio.sleep(0)
