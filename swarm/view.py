"""SwarmView: a frozen picture of the live Peers of one model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.profile import accepts
from swarm.span import Span


@dataclass(frozen=True, slots=True)
class SwarmView:
    model: ModelRef
    peers: tuple[PeerInfo, ...]  # in order of peer_id, one entry each
    taken_at: float  # wall clock, seconds

    @classmethod
    def of(cls, model: ModelRef, infos: Iterable[PeerInfo], now: float) -> SwarmView:
        """Keep what is of ``model`` and unexpired; of two claims by one Peer, the later expiry; drop the withdrawn."""
        latest: dict[str, PeerInfo] = {}
        for info in infos:
            if (
                info.model.fingerprint != model.fingerprint
                or info.model.num_blocks != model.num_blocks
                or info.expires_at <= now
            ):
                continue
            known = latest.get(info.peer_id)
            if known is None or info.expires_at > known.expires_at:
                latest[info.peer_id] = info
        living = (latest[p] for p in sorted(latest) if latest[p].state is not PeerState.GONE)
        return cls(model, tuple(living), now)

    @property
    def span(self) -> Span:
        """All Blocks of the model."""
        return Span(0, self.model.num_blocks)

    def usable(self, profile: str | None = None) -> tuple[PeerInfo, ...]:
        """The Peers that take new Seats, optionally those only that a Session of one profile may use."""
        ready = (p for p in self.peers if p.state is PeerState.READY)
        return tuple(p for p in ready if profile is None or accepts(profile, p.profile))
