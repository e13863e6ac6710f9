"""Bans: which peers are left out for now, and for how long. Pure but for the clock that it is given."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.clock import Clock
from swarm.peerinfo import PeerInfo

FIRST_BAN_S = 30.0  # longer than it takes to try a few others; doubled at every further one …
LONGEST_BAN_S = 300.0
FORGET_S = 300.0  # … until the peer behaved for this long after one


@dataclass(frozen=True, slots=True)
class Ban:
    strikes: int
    until: float  # monotonic seconds
    reason: str


class Bans:
    """By peer and instance: a restarted Peer is a new chance."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._bans: dict[tuple[str, int], Ban] = {}

    def add(self, peer: PeerInfo, reason: str) -> Ban:
        """Bans ``peer``. While a ban is in force another one changes nothing: many Sessions tell of one failure."""
        now, key = self._clock.monotonic(), (peer.peer_id, peer.instance)
        self._bans = {k: b for k, b in self._bans.items() if now < b.until + FORGET_S}
        known = self._bans.get(key)
        if known is not None and now < known.until:
            return known
        strikes = 1 if known is None else known.strikes + 1
        ban = Ban(strikes, now + min(FIRST_BAN_S * 2 ** (strikes - 1), LONGEST_BAN_S), reason)
        self._bans[key] = ban
        return ban

    def forgive(self, peer: PeerInfo) -> None:
        self._bans.pop((peer.peer_id, peer.instance), None)

    def holds(self, peer: PeerInfo) -> bool:
        ban = self._bans.get((peer.peer_id, peer.instance))
        return ban is not None and self._clock.monotonic() < ban.until
