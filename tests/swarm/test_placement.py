from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.peerinfo import PeerState
from swarm.placement import choose_span
from swarm.span import Span, uncovered
from swarm.view import SwarmView
from tests.support.swarm import NOW, a_model, a_peer, a_view


def test_the_first_peer_takes_as_much_as_it_can_from_the_start():
    assert choose_span(a_view(), 10, "c8") == Span(0, 10)
    assert choose_span(a_view(), 100, "c8") == Span(0, 24)


def test_missing_blocks_come_first_and_no_more_than_them():
    assert choose_span(a_view(a_peer(1, "0:10"), a_peer(2, "16:24")), 24, "c8") == Span(10, 16)
    assert choose_span(a_view(a_peer(1, "0:10"), a_peer(2, "16:24")), 4, "c8") == Span(10, 14)


def test_where_nothing_is_missing_the_weakest_block_is_relieved():
    view = a_view(a_peer(1, "0:24"), a_peer(2, "0:12"), a_peer(3, "18:24"))
    assert choose_span(view, 6, "c8") == Span(12, 18)


def test_peers_that_are_loading_count_so_that_two_newcomers_do_not_fill_the_same_gap():
    view = a_view(a_peer(1, "0:12", state=PeerState.JOINING))
    assert choose_span(view, 12, "c8") == Span(12, 24)


def test_peers_that_are_leaving_do_not_count():
    view = a_view(a_peer(1, "0:12"), a_peer(2, "12:24", state=PeerState.DRAINING))
    assert choose_span(view, 12, "c8") == Span(12, 24)


def test_peers_of_another_profile_do_not_count():
    view = a_view(a_peer(1, "0:12"), a_peer(2, "12:24", profile="f32"))
    assert choose_span(view, 24, "c8") == Span(12, 24)
    assert choose_span(view, 24, "f32") == Span(0, 12)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12)), max_size=5), st.integers(1, 14))
def test_a_choice_fits_the_model_and_the_capacity_and_never_ignores_a_gap(claims: list[tuple[int, int]], capacity: int):
    model = a_model(12)
    peers = [a_peer(n, f"{s}:{min(12, s + length)}", model=model) for n, (s, length) in enumerate(claims)]
    view = SwarmView.of(model, peers, NOW)
    chosen = choose_span(view, capacity, "c8")
    assert view.span.covers(chosen) and len(chosen) <= capacity
    missing = {b for gap in uncovered(view.span, (p.span for p in view.peers)) for b in gap}
    assert not missing or missing & set(chosen)


@given(st.integers(1, 8), st.integers(8, 40))
def test_newcomers_one_after_the_other_cover_the_model(capacity: int, num_blocks: int):
    model = a_model(num_blocks)
    view = SwarmView.of(model, [], NOW)
    for number in range(-(-num_blocks // capacity)):
        span = choose_span(view, capacity, "c8")
        view = SwarmView.of(model, [*view.peers, a_peer(number, str(span), model=model)], NOW)
    assert uncovered(view.span, (p.span for p in view.peers)) == ()
