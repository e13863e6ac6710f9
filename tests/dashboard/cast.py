"""Short ways to make what a dashboard sees."""

from __future__ import annotations

from typing import Any

from dashboard.picture import Hints
from dashboard.sightings import Sighting, Standing
from proto.messages import Info
from swarm.peerinfo import Flow, PeerInfo, PeerStats
from tests.support.swarm import NOW, a_peer

HINTS = Hints("0.1.0", (), 128)
SECRET_ADDRESS = "203.0.113.77:4000"


def stats(decode: int = 0, flows: tuple[Flow, ...] = (), pages: int = 128, used: int = 3) -> PeerStats:
    return PeerStats(0, decode, pages, used, flows)


def info(peer: PeerInfo, said: PeerStats | None = None) -> Info:
    return Info(peer, (), 64, 512, 1024, (0,), said)


def seen(number: int = 1, span: str = "0:24", **changes: Any) -> Sighting:
    """A Peer that is ready and answers; ``changes`` of the Sighting, or of its PeerInfo."""
    of_sighting = {
        name: changes.pop(name)
        for name in ("standing", "reachable", "record_expires_at", "tokens_per_s", "rtt_s", "stats")
        if name in changes
    }
    values: dict[str, Any] = {
        "standing": Standing.READY, "reachable": True, "record_expires_at": NOW + 40, "tokens_per_s": 10.0,
        "rtt_s": 0.002, "stats": stats(),
    }  # fmt: skip
    return Sighting(a_peer(number, span, **{"address": SECRET_ADDRESS, **changes}), **{**values, **of_sighting})
