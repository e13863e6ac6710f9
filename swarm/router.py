"""The router: SwarmView → Route. A shortest path over (Block, Peer), so a Route may enter a Span at any of its Blocks.

Cost of a path, in seconds of one decode step: for every Hop the round trip to it, and for every Block the Peer's own
measured time, stretched by the tokens already queued there, so that clients do not herd onto one fast Peer:

    cost = Σ_hops rtt_s(peer) + Σ_blocks block_s(peer) · (1 + queue_tokens(peer) + sessions(peer) / 4)

Within one Peer going on costs no round trip. Dynamic programming over Blocks: O(blocks · peers).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from swarm.errors import NoRoute
from swarm.peerinfo import PeerInfo
from swarm.profile import APPROXIMATE
from swarm.route import Hop, Route
from swarm.span import Span, uncovered
from swarm.view import SwarmView

Rtt = Callable[[PeerInfo], float]

SMALLEST_BLOCK_S = 1e-6  # a Peer that claims 0 s must not look free


def plan(
    view: SwarmView,
    *,
    profile: str,
    rtt_s: Rtt,
    span: Span | None = None,
    banned: Collection[str] = (),
    kv_tokens: int = 0,
) -> Route:
    """The cheapest Route over ``span`` (default: all Blocks) by usable Peers of ``profile``.

    ``banned`` Peers and those that claim fewer than ``kv_tokens`` free slots are left out. Ties go to the smaller
    peer_id, so equal inputs give equal Routes. Raises NoRoute naming the Blocks that nobody left can serve.
    """
    wanted = span or view.span
    usable = [p for p in view.usable(profile) if p.peer_id not in banned]
    peers = [p for p in usable if p.kv_tokens_free >= kv_tokens]
    gaps = uncovered(wanted, (p.span for p in peers))
    if gaps:
        raise NoRoute(_why(view, wanted, gaps, profile, usable, kv_tokens), gaps)

    # best[peer] is (cost, hops so far) of the cheapest way to have finished the Blocks up to here on that Peer.
    best: dict[str, tuple[float, tuple[Hop, ...]]] = {}
    for block in wanted:
        arrivals = min(best.values(), key=_by_cost, default=(0.0, ()))
        following: dict[str, tuple[float, tuple[Hop, ...]]] = {}
        for peer in peers:
            if block not in peer.span:
                continue
            entered = (arrivals[0] + max(0.0, rtt_s(peer)), (*arrivals[1], Hop(peer, Span(block, block + 1))))
            stayed = best.get(peer.peer_id)
            if stayed is not None:
                last = stayed[1][-1]
                stayed = (stayed[0], (*stayed[1][:-1], Hop(peer, Span(last.span.start, block + 1))))
            cost, hops = entered if stayed is None else min(stayed, entered, key=_by_cost)
            following[peer.peer_id] = (cost + block_cost_s(peer), hops)
        best = following
    return Route(min(best.values(), key=_by_cost)[1])


def block_cost_s(peer: PeerInfo) -> float:
    """Seconds one Block is expected to take at ``peer``, its present load counted."""
    return max(peer.block_s, SMALLEST_BLOCK_S) * (1 + peer.queue_tokens + peer.sessions / 4)


def _by_cost(path: tuple[float, tuple[Hop, ...]]) -> tuple[float, int, tuple[str, ...]]:
    return path[0], len(path[1]), tuple(h.peer.peer_id for h in path[1])


def _why(
    view: SwarmView, wanted: Span, gaps: tuple[Span, ...], profile: str, usable: list[PeerInfo], kv_tokens: int
) -> str:
    blocks = ", ".join(str(g) for g in gaps)
    if not uncovered(wanted, (p.span for p in usable)):
        lacking = f"no peer with {kv_tokens} free KV tokens serves blocks {blocks} now"
        return f"{lacking}; try again later or ask for fewer tokens"
    head = f"nobody serves blocks {blocks} of {view.model.name} in profile {profile} now"
    rough = [p.span for p in view.usable(APPROXIMATE) if p.profile == APPROXIMATE]
    if rough and profile == "c8" and not uncovered(wanted, [*(p.span for p in usable), *rough]):
        return f"{head}; peers in {APPROXIMATE} do, not exactly repeatable: allow them by --profile {APPROXIMATE}"
    return f"{head}; start a peer there: python -m peer.serve --blocks {gaps[0]} --join …"
