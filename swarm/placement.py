"""Placement: SwarmView → the Span a newcomer should take. Pure; moving a running Peer comes later."""

from __future__ import annotations

from swarm.peerinfo import PeerState
from swarm.profile import accepts
from swarm.span import Span
from swarm.view import SwarmView


def choose_span(view: SwarmView, capacity: int, profile: str) -> Span:
    """The Span of at most ``capacity`` Blocks that the swarm lacks most in ``profile``.

    Where Blocks are missing: the window with the most missing Blocks, cut to them. Where none is: the window whose
    replicas are fewest, compared by its weakest Block first, so the swarm's bottleneck is always relieved.
    Ties go to the lowest Block. ``capacity`` is at least 1. Peers that are still loading count: else all who start
    together would fill the same gap. Those of another profile do not, unless its Sessions may use them.
    """
    replicas = _claims(view, profile)
    total = len(replicas)
    width = max(1, min(capacity, total))
    windows = [Span(start, start + width) for start in range(total - width + 1)]
    if 0 in replicas:
        best = max(windows, key=lambda w: (sum(replicas[b] == 0 for b in w), -w.start))
        lacking = [b for b in best if replicas[b] == 0]
        return Span(lacking[0], lacking[-1] + 1)
    return min(windows, key=lambda w: (sorted(replicas[b] for b in w), w.start))


def _claims(view: SwarmView, profile: str) -> list[int]:
    """How many Peers that a Session of ``profile`` may use serve each Block, or soon will."""
    counts = [0] * view.model.num_blocks
    for peer in view.peers:
        if accepts(profile, peer.profile) and peer.state in (PeerState.JOINING, PeerState.READY):
            for block in peer.span:
                counts[block] += 1
    return counts
