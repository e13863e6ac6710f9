"""Which Span this Peer serves: the one it was told, or the one the swarm lacks most. Pure."""

from __future__ import annotations

from swarm.errors import UsageError
from swarm.peerinfo import ModelRef, PeerState
from swarm.placement import choose_span
from swarm.span import Span
from swarm.view import SwarmView


def given_span(blocks: Span, ref: ModelRef) -> Span:
    """``--blocks``, if the model has them. Raises UsageError naming what it has."""
    if blocks.end > ref.num_blocks:
        here = f"{ref.name}, which has {ref.num_blocks} blocks"
        raise UsageError(f"--blocks {blocks} lies outside {here}; choose from 0:{ref.num_blocks}")
    return blocks


def lacking_span(view: SwarmView, at_most: int) -> Span:
    """What the swarm lacks most. Peers that are still loading count as if they served already, or all that start
    together would choose the same."""
    coming = (p.with_state(PeerState.READY) if p.state is PeerState.JOINING else p for p in view.peers)
    return choose_span(SwarmView(view.model, tuple(coming), view.taken_at), at_most)
