from __future__ import annotations

from peer.claim import Claim
from peer.desk import Desk
from peer.engine import Engine
from peer.pages import PagePool
from peer.scheduler import Scheduler
from peer.seats import Seats
from swarm.clock import VirtualClock
from swarm.peerinfo import PeerState
from tests.support.desks import NoPost
from tests.support.seats import MODEL, opening, terms, tokens


async def test_a_claim_is_read_from_the_books_each_time():
    engine = Engine(Scheduler(prefill_tokens=16, max_decodes=8))
    seats = Seats(terms(), PagePool(10), VirtualClock())
    claim = Claim("f" * 32, 7, "127.0.0.1:4000", "1.0", Desk(seats, engine, NoPost(), "f" * 32))
    before = claim.info(5.0)
    assert (before.model, before.state, before.expires_at, before.instance) == (MODEL, PeerState.JOINING, 5.0, 7)
    assert (before.kv_tokens, before.kv_tokens_free, before.sessions, before.queue_tokens) == (40, 40, 0, 0)
    seats.open(bytes(16), 0, 1, opening(max_tokens=9))
    engine.submit(seats.find(bytes(16), 1), tokens(0, 0, 5))
    assert (before.name, before.public_address) == ("", False)
    claim.state, claim.block_s, claim.name, claim.public_address = PeerState.READY, 0.25, "kitchen", True
    after = claim.info(6.0)
    assert (after.state, after.block_s, after.expires_at) == (PeerState.READY, 0.25, 6.0)
    assert (after.kv_tokens, after.kv_tokens_free, after.sessions, after.queue_tokens) == (40, 28, 1, 5)
    assert (after.name, after.public_address) == ("kitchen", True)
    engine.close()
