from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import NoRoute
from swarm.peerinfo import PeerInfo, PeerState
from swarm.route import Route
from swarm.router import SMALLEST_BLOCK_S, block_cost_s, plan
from swarm.span import Span, uncovered
from swarm.view import SwarmView
from tests.support.swarm import NOW, a_model, a_peer, a_view


def near(_: PeerInfo) -> float:
    return 0.02


def spans(route: Route) -> list[tuple[int, str]]:
    return [(int(h.peer.peer_id, 16), str(h.span)) for h in route.hops]


def test_one_peer_with_everything_is_one_hop():
    assert spans(plan(a_view(a_peer(1)), profile="c8", rtt_s=near)) == [(1, "0:24")]


def test_a_route_may_enter_a_span_at_any_of_its_blocks():
    view = a_view(a_peer(1, "0:10"), a_peer(2, "8:16"), a_peer(3, "12:24"))
    route = plan(view, profile="c8", rtt_s=near)
    assert [h.peer for h in route.hops] == list(view.peers) and route.span == Span(0, 24)
    assert spans(plan(view, profile="c8", rtt_s=near, span=Span(9, 14))) == [(2, "9:14")]


def test_blocks_go_to_the_faster_of_two_peers_that_overlap():
    view = a_view(a_peer(1, "0:10", block_s=0.05), a_peer(2, "8:24", block_s=0.01))
    assert spans(plan(view, profile="c8", rtt_s=near)) == [(1, "0:8"), (2, "8:24")]


def test_a_far_peer_loses_to_a_near_one():
    def rtt_s(peer: PeerInfo) -> float:
        return 0.3 if peer == far else 0.01

    far, close = a_peer(1), a_peer(2, block_s=0.011)
    assert plan(a_view(far, close), profile="c8", rtt_s=rtt_s).hops[0].peer == close


def test_one_more_hop_is_not_worth_a_round_trip_when_it_gains_less():
    whole, fast_tail = a_peer(1, block_s=0.01), a_peer(2, "20:24", block_s=0.009)
    assert spans(plan(a_view(whole, fast_tail), profile="c8", rtt_s=near)) == [(1, "0:24")]
    assert spans(plan(a_view(whole, fast_tail), profile="c8", rtt_s=lambda _: 0.0)) == [(1, "0:20"), (2, "20:24")]


def test_a_busy_peer_is_avoided_so_that_clients_do_not_herd():
    fast_but_busy, slow = a_peer(1, block_s=0.01, queue_tokens=4), a_peer(2, block_s=0.02)
    assert plan(a_view(fast_but_busy, slow), profile="c8", rtt_s=near).hops[0].peer == slow
    many_sessions = a_peer(1, block_s=0.01, sessions=8)
    assert plan(a_view(many_sessions, slow), profile="c8", rtt_s=near).hops[0].peer == slow


def test_a_peer_that_claims_to_cost_nothing_still_costs_something():
    assert block_cost_s(a_peer(block_s=0.0)) == SMALLEST_BLOCK_S


def test_equal_inputs_give_equal_routes_and_ties_go_to_the_smaller_id():
    view = a_view(a_peer(2), a_peer(1), a_peer(3))
    assert spans(plan(view, profile="c8", rtt_s=near)) == [(1, "0:24")]


def test_only_the_asked_blocks_are_planned():
    view = a_view(a_peer(1, "0:10"), a_peer(2, "8:24"))
    assert spans(plan(view, profile="c8", rtt_s=near, span=Span(9, 12))) == [(2, "9:12")]


def test_a_gap_elsewhere_does_not_matter_to_a_detour():
    view = a_view(a_peer(2, "8:24"))
    assert spans(plan(view, profile="c8", rtt_s=near, span=Span(8, 24))) == [(2, "8:24")]


@pytest.mark.parametrize(
    "unfit",
    [
        a_peer(1, state=PeerState.JOINING),
        a_peer(1, state=PeerState.DRAINING),
        a_peer(1, profile="f32"),
        a_peer(1, kv_tokens_free=99),
    ],
    ids=["joining", "draining", "another profile", "full"],
)
def test_an_unfit_peer_is_never_used(unfit: PeerInfo):
    view = a_view(unfit, a_peer(2, block_s=1.0))
    assert spans(plan(view, profile="c8", rtt_s=near, kv_tokens=100)) == [(2, "0:24")]


def test_a_banned_peer_is_left_out():
    view = a_view(a_peer(1), a_peer(2, block_s=1.0))
    assert spans(plan(view, profile="c8", rtt_s=near, banned={a_peer(1).peer_id})) == [(2, "0:24")]


def test_missing_blocks_are_named_and_the_user_is_told_what_to_start():
    view = a_view(a_peer(1, "0:8"), a_peer(2, "10:20"))
    with pytest.raises(NoRoute, match=r"blocks 8:10, 20:24 of sample in profile c8.*--blocks 8:10") as caught:
        plan(view, profile="c8", rtt_s=near)
    assert caught.value.missing == (Span(8, 10), Span(20, 24))


def test_an_empty_swarm_misses_everything():
    with pytest.raises(NoRoute) as caught:
        plan(a_view(), profile="c8", rtt_s=near)
    assert caught.value.missing == (Span(0, 24),)


@pytest.mark.parametrize("elsewhere", [[], [a_peer(3, "0:8")]], ids=["nobody else", "with a gap elsewhere"])
def test_a_want_of_kv_tokens_is_told_apart_from_missing_peers(elsewhere: list[PeerInfo]):
    view = a_view(a_peer(1, "10:24", kv_tokens_free=10), *elsewhere)
    with pytest.raises(NoRoute, match="no peer with 100 free KV tokens serves blocks 10:24"):
        plan(view, profile="c8", rtt_s=near, span=Span(10, 24), kv_tokens=100)


def test_a_negative_latency_is_no_bargain():
    assert spans(plan(a_view(a_peer(1, "0:12"), a_peer(2, "0:24")), profile="c8", rtt_s=lambda _: -1.0)) == [
        (2, "0:24")
    ]


claims = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 5), st.sampled_from([0.01, 0.02, 0.05]), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(claims, st.lists(st.sampled_from([0.0, 0.01, 0.1]), min_size=4, max_size=4))
def test_no_route_is_cheaper_than_the_planned_one(claimed: list[tuple[int, int, float, int]], rtts: list[float]):
    """Against brute force: every way to give each of 5 Blocks to a peer that serves it."""
    model = a_model(5)
    peers = [
        a_peer(n, f"{start}:{min(5, start + length)}", model=model, block_s=block_s, queue_tokens=queue)
        for n, (start, length, block_s, queue) in enumerate(claimed)
    ]
    view = SwarmView.of(model, peers, NOW)

    def rtt_s(peer: PeerInfo) -> float:
        return rtts[int(peer.peer_id, 16)]

    def cost(assignment: tuple[PeerInfo, ...]) -> float:
        entries = [p for left, p in zip((None, *assignment), assignment, strict=False) if left != p]
        return sum(rtt_s(p) for p in entries) + sum(block_cost_s(p) for p in assignment)

    gaps = uncovered(view.span, (p.span for p in peers))
    if gaps:
        with pytest.raises(NoRoute) as caught:
            plan(view, profile="c8", rtt_s=rtt_s)
        assert caught.value.missing == gaps
        return
    route = plan(view, profile="c8", rtt_s=rtt_s)
    assert route.span == view.span
    cheapest = min(cost(a) for a in itertools.product(*([p for p in peers if b in p.span] for b in view.span)))
    assert cost(tuple(h.peer for h in route.hops for _ in h.span)) == pytest.approx(cheapest)


def test_exact_and_approximate_peers_share_a_route_only_where_that_is_asked_for():
    view = a_view(a_peer(1, "0:12"), a_peer(2, "12:24", profile="c8-approx"))
    with pytest.raises(NoRoute, match="allow them by --profile c8-approx"):
        plan(view, profile="c8", rtt_s=near)
    assert spans(plan(view, profile="c8-approx", rtt_s=near)) == [(1, "0:12"), (2, "12:24")]
    with pytest.raises(NoRoute, match="start a peer there"):
        plan(view, profile="f32", rtt_s=near)
    exact = a_view(a_peer(1))
    with pytest.raises(NoRoute, match="start a peer there"):  # and not: allow what nobody offers
        plan(exact, profile="c8", rtt_s=near, banned=frozenset({exact.peers[0].peer_id}))
