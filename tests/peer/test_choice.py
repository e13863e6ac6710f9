from __future__ import annotations

import pytest

from peer.choice import given_span, lacking_span
from swarm.errors import UsageError
from swarm.peerinfo import PeerInfo, PeerState
from swarm.span import Span
from swarm.view import SwarmView
from tests.support.seats import MODEL


def view(*peers: tuple[str, PeerState]) -> SwarmView:
    infos = [
        PeerInfo(f"{n:032x}", 1, MODEL, Span.parse(span), "127.0.0.1:1", "c8", state, "0", 1, 1, 0, 0, 0.0, 2e9)
        for n, (span, state) in enumerate(peers)
    ]
    return SwarmView.of(MODEL, infos, 1e9)


def test_what_was_told_is_taken_if_the_model_has_it():
    assert given_span(Span(2, 8), MODEL) == Span(2, 8)
    with pytest.raises(UsageError, match="--blocks 2:9 lies outside tiny, which has 8 blocks; choose from 0:8"):
        given_span(Span(2, 9), MODEL)


def test_the_first_peer_takes_all_it_can():
    assert lacking_span(view(), 5) == Span(0, 5)
    assert lacking_span(view(), 99) == Span(0, 8)


def test_peers_that_are_loading_count_and_those_that_leave_do_not():
    loading, leaving = ("0:4", PeerState.JOINING), ("4:8", PeerState.DRAINING)
    assert lacking_span(view(loading), 4) == Span(4, 8)
    assert lacking_span(view(("0:4", PeerState.READY), leaving), 4) == Span(4, 8)
