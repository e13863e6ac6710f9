"""What this Peer says of itself: a PeerInfo, made afresh from the books whenever somebody asks. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from peer.desk import Desk
from swarm.peerinfo import PeerInfo, PeerState


@dataclass(slots=True)
class Claim:
    """``state`` and ``block_s`` change in the course of the Peer's life; the load is read from the desk."""

    peer_id: str
    instance: int
    address: str
    version: str
    desk: Desk
    state: PeerState = PeerState.JOINING
    block_s: float = 0.0
    name: str = ""
    public_address: bool = False

    def info(self, expires_at: float) -> PeerInfo:
        """The claim of this moment, valid until ``expires_at`` (wall clock)."""
        seats = self.desk.seats
        return PeerInfo(
            peer_id=self.peer_id,
            instance=self.instance,
            model=seats.terms.model,
            span=seats.terms.span,
            address=self.address,
            profile=seats.terms.profile,
            state=self.state,
            version=self.version,
            kv_tokens=seats.kv_tokens,
            kv_tokens_free=seats.kv_tokens_free,
            sessions=len(seats),
            queue_tokens=self.desk.engine.queue_tokens,
            block_s=self.block_s,
            expires_at=expires_at,
            name=self.name,
            public_address=self.public_address,
        )
