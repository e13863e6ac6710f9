"""Sightings: what is known of every Peer, from two sources. Pure: who looks and asks tells it, with the times.

The directory says who is there, until when; a killed Peer stays in it until its record expires. The Peers themselves
say (``Peer.Info``) what they do now, and their silence is noticed within seconds. So a Peer is *gone* when the
directory says so, and *unreachable* when it does not answer us, which may also be our own fault.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from dashboard.rates import Rate
from proto.messages import Info
from swarm.peerinfo import PeerInfo, PeerState, PeerStats

ASK_EVERY_S = 1.5  # a Peer that answers
AGAIN_S = 0.5  # after its first silence
DOUBTFUL_S = 10.0  # the longest pause between questions to one that does not
STRIKES = 2  # silences in a row that make it unreachable
FRESH_S = 5.0  # how long an answer is better than the record
GONE_S = 60.0  # how long a Peer that has left is still shown
MAX_ROWS = 512
RTT_SAMPLES = 5


class Standing(Enum):
    JOINING = "joining"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


_STANDINGS = {
    PeerState.JOINING: Standing.JOINING,
    PeerState.READY: Standing.READY,
    PeerState.DRAINING: Standing.DRAINING,
    PeerState.GONE: Standing.GONE,
}


class Lane(Enum):
    """Who waits behind whom for a question: many that do not answer must hold up neither the others nor newcomers."""

    KNOWN = "answers"
    NEW = "was not asked yet"
    SILENT = "did not answer"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One Peer at one moment. ``info`` is its own latest word, or its record."""

    info: PeerInfo
    standing: Standing
    reachable: bool | None  # None: not known yet
    record_expires_at: float  # wall clock
    tokens_per_s: float | None = None
    rtt_s: float | None = None
    stats: PeerStats | None = None

    @property
    def serves(self) -> bool:
        """Whether a Session could use it now, seen from here. To announce is cheap: it has to answer."""
        return self.standing is Standing.READY and self.reachable is True


@dataclass(slots=True)
class _Row:
    record: PeerInfo
    seen_at: float  # monotonic: when it was first looked at
    missing: bool = False  # from the last look
    live: Info | None = None
    live_at: float = -math.inf
    asked_at: float = -math.inf
    asking: bool = False
    silences: int = 0
    gone_at: float | None = None
    rate: Rate = field(default_factory=Rate)
    rtts: deque[float] = field(default_factory=lambda: deque[float](maxlen=RTT_SAMPLES))

    @property
    def answers(self) -> bool:
        return self.live is not None and self.silences == 0

    @property
    def reachable(self) -> bool | None:
        if self.gone_at is not None:
            return False
        if self.live is None and self.record.state is PeerState.JOINING:
            return None  # it answers nobody before it has loaded
        if self.silences >= STRIKES:
            return False
        return True if self.live is not None else None

    def due_at(self) -> float:
        """When to ask it next; never while it is being asked, nor once it is gone."""
        if self.asking or self.gone_at is not None:
            return math.inf
        if self.silences == 0:
            return self.asked_at + ASK_EVERY_S
        return self.asked_at + min(AGAIN_S * 2 ** (self.silences - 1), DOUBTFUL_S)

    def forget(self) -> None:
        self.live, self.live_at, self.silences = None, -math.inf, 0
        self.rate.forget()
        self.rtts.clear()


class Sightings:
    """The book. ``now`` is monotonic, ``wall`` the wall clock."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}  # by peer_id
        self.in_touch = False  # whether the last look succeeded

    def look(self, peers: Iterable[PeerInfo], wall: float, now: float) -> None:
        """The directory was looked at, and these were all in it."""
        self.in_touch = True
        present: set[str] = set()
        for record in peers:
            present.add(record.peer_id)
            row = self._rows.get(record.peer_id)
            if row is None:
                if not self._make_room(now):
                    continue
                row = self._rows[record.peer_id] = _Row(record, now)
            if row.record.instance != record.instance or row.record.model.fingerprint != record.model.fingerprint:
                row.forget()  # another life
            row.record, row.missing, row.gone_at = record, False, None
        for peer_id, row in self._rows.items():
            row.missing = peer_id not in present
        self.settle(wall, now)

    def lost_touch(self, wall: float, now: float) -> None:
        """The directory could not be looked at: who answers us is there all the same."""
        self.in_touch = False
        self.settle(wall, now)

    def due(self, now: float) -> list[PeerInfo]:
        """Who is to be asked now, those who have answered before the others; each of them is being asked from here on
        until ``heard`` or ``silent``.
        """
        rows = [row for row in self._rows.values() if row.due_at() <= now]
        rows.sort(key=lambda row: (not row.answers, row.asked_at))
        for row in rows:
            row.asking, row.asked_at = True, now
        return [row.record for row in rows]

    def lane(self, peer_id: str) -> Lane:
        row = self._rows.get(peer_id)
        if row is None or row.silences:
            return Lane.SILENT
        return Lane.KNOWN if row.answers else Lane.NEW

    def heard(self, asked: PeerInfo, info: Info, rtt_s: float, now: float) -> None:
        """A Peer answered. Its round trip counts if the connection was there before."""
        row = self._of(asked)
        if row is None:
            return
        if row.live is not None and row.live.peer.instance != info.peer.instance:
            row.forget()
        if row.answers:
            row.rtts.append(rtt_s)
        row.live, row.live_at, row.silences, row.asking = info, now, 0, False
        if info.stats is not None:
            row.rate.note(now, info.stats.decode_tokens)

    def silent(self, asked: PeerInfo, wall: float, now: float) -> None:
        """A Peer did not answer, or nonsense."""
        row = self._of(asked)
        if row is None:
            return
        row.silences, row.asking, row.asked_at = row.silences + 1, False, now
        if row.silences >= STRIKES:
            row.rate.forget()
            row.rtts.clear()
        self.settle(wall, now)

    def settle(self, wall: float, now: float) -> None:
        """Who is gone, and for how long; to be called now and then."""
        for peer_id, row in list(self._rows.items()):
            if row.gone_at is None and self._is_gone(row, wall):
                row.gone_at = now
                row.rate.forget()
            if row.gone_at is not None and now - row.gone_at >= GONE_S:
                del self._rows[peer_id]

    def all(self, now: float) -> tuple[Sighting, ...]:
        """Everybody, in order of peer_id."""
        return tuple(self._sighting(self._rows[peer_id], now) for peer_id in sorted(self._rows))

    def present(self) -> list[PeerInfo]:
        """The records of all who are not gone: whose connections are worth keeping."""
        return [row.record for row in self._rows.values() if row.gone_at is None]

    def _of(self, asked: PeerInfo) -> _Row | None:
        row = self._rows.get(asked.peer_id)
        if row is None or row.record.instance != asked.instance:
            if row is not None:
                row.asking = False  # the question was to an earlier life of it
            return None
        return row

    def _is_gone(self, row: _Row, wall: float) -> bool:
        if not self.in_touch:
            return row.record.expires_at <= wall and row.reachable is not True
        if not row.missing:
            return row.record.expires_at <= wall
        if row.record.expires_at <= wall or row.reachable is not True:
            return True
        # A look may miss a record that is there. Who says that he is ready is believed until that has expired.
        return row.live is None or row.live.peer.state in (PeerState.DRAINING, PeerState.GONE)

    def _sighting(self, row: _Row, now: float) -> Sighting:
        live = row.live if row.live is not None and now - row.live_at <= FRESH_S else None
        info = row.record if live is None else live.peer
        gone = row.gone_at is not None
        return Sighting(
            info,
            Standing.GONE if gone else _STANDINGS[info.state],
            row.reachable,
            row.record.expires_at,
            None if gone or row.reachable is not True else row.rate.per_s,
            median(row.rtts) if row.rtts and not gone else None,
            None if gone or live is None else live.stats,
        )

    def _make_room(self, now: float) -> bool:
        """Room for one more. A stranger can announce any number of Peers; those who answer stay."""
        if len(self._rows) < MAX_ROWS:
            return True
        spare = [peer_id for peer_id, row in self._rows.items() if not row.answers and not row.asking]
        if not spare:
            return False
        victim = min(spare, key=lambda peer_id: (self._rows[peer_id].gone_at is None, -self._rows[peer_id].silences))
        if self._rows[victim].gone_at is None and self._rows[victim].reachable is not False:
            return False  # not asked yet: it is to have its chance first
        del self._rows[victim]
        return True
