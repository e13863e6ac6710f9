"""Hop and Route: who computes which Blocks, in order, each Block exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import UsageError
from swarm.peerinfo import PeerInfo
from swarm.span import Span


@dataclass(frozen=True, slots=True)
class Hop:
    """``span`` is the part of ``peer.span`` that is used."""

    peer: PeerInfo
    span: Span

    def __post_init__(self) -> None:
        if not self.peer.span.covers(self.span):
            raise UsageError(f"hop {self.span} lies outside {self.peer}")

    def __str__(self) -> str:
        return f"{self.peer.peer_id[:8]}[{self.span}]"


@dataclass(frozen=True, slots=True)
class Route:
    """Hops that touch end to end."""

    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        if not self.hops:
            raise UsageError("a route has at least one hop")
        for left, right in zip(self.hops, self.hops[1:], strict=False):
            if left.span.end != right.span.start:
                raise UsageError(f"route breaks between {left} and {right}")

    @property
    def span(self) -> Span:
        return Span(self.hops[0].span.start, self.hops[-1].span.end)

    def __str__(self) -> str:
        return " → ".join(str(h) for h in self.hops)
