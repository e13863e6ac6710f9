from __future__ import annotations

from dataclasses import replace

from swarm.peerinfo import PeerState
from tests.support.swarm import NOW, a_model, a_peer, a_view


def test_of_two_claims_by_one_peer_the_later_expiry_counts_whatever_the_order():
    early = a_peer(1, sessions=1, expires_at=NOW + 10)
    late = a_peer(1, sessions=2, expires_at=NOW + 20)
    assert a_view(early, late).peers == a_view(late, early).peers == (late,)


def test_the_withdrawn_are_gone_even_when_an_older_claim_is_still_about():
    here = a_peer(1)
    gone = replace(here, state=PeerState.GONE, expires_at=here.expires_at + 0.01)
    assert a_view(here, gone).peers == ()
    assert a_view(gone, here).peers == ()


def test_a_peer_that_came_back_after_its_withdrawal_is_seen():
    gone = a_peer(1, state=PeerState.GONE, expires_at=NOW + 40)
    back = a_peer(1, instance=2, expires_at=NOW + 45)
    assert a_view(gone, back).peers == (back,)


def test_the_expired_and_those_of_another_model_are_left_out():
    expired = a_peer(1, expires_at=NOW)
    stranger = a_peer(2, model=a_model(digit="b"))
    liar = a_peer(3, "0:20", model=a_model(20))  # right fingerprint, wrong number of blocks
    assert a_view(expired, stranger, liar, model=a_model()).peers == ()


def test_peers_stand_in_the_order_of_their_ids():
    assert [p.peer_id for p in a_view(a_peer(3), a_peer(1), a_peer(2)).peers] == [a_peer(n).peer_id for n in (1, 2, 3)]


def test_only_ready_peers_take_seats_and_a_profile_can_be_asked_for():
    peers = [
        a_peer(n, state=state) for n, state in enumerate((PeerState.JOINING, PeerState.READY, PeerState.DRAINING), 1)
    ]
    other = a_peer(4, profile="f32")
    view = a_view(*peers, other)
    assert view.usable() == (peers[1], other)
    assert view.usable("f32") == (other,)
