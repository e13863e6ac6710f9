"""Meter: what a Peer counts of its work. This one counts nothing; Prometheus reads that of ``peer.metrics``."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from swarm.errors import FaultCode


class Side(Enum):
    """Who is at the other end of a Link."""

    CLIENT = "client"
    PEER = "peer"


class Meter:
    """Called on the event loop, in the course of the work: each of these is quick and never fails."""

    def observe_batch(
        self, seats: int, prefill_tokens: int, decode_tokens: int, queue_s: Iterable[float], compute_s: float
    ) -> None:
        """A Batch was computed. ``queue_s``: how long each of its Chunks had waited."""

    def sent(self, side: Side, num_bytes: int) -> None:
        """A Frame was written."""

    def received(self, side: Side, num_bytes: int) -> None:
        """A Frame was read."""

    def refused(self, code: FaultCode) -> None:
        """A Session, or a whole Link, was answered with a Fault."""

    def served_failover(self) -> None:
        """A Seat, new or not, was given its Path with an epoch above 0: once for each Seat and repair."""

    def prefix(self, hit_tokens: int, miss_tokens: int) -> None:
        """A Seat was opened: of its prompt so much was found in kept Pages, and so much is to be computed."""

    def drafted(self, proposed: int, accepted: int) -> None:
        """The last Hop compared guesses with what it drew."""
