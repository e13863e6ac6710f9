"""PeerInfo: what a Peer claims about itself. A plain value; how it travels is ``dht.records``' affair."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import UsageError
from swarm.span import Span


class PeerState(IntEnum):
    JOINING = 1  # announced, not yet taking Seats
    READY = 2
    DRAINING = 3  # finishes what it has, takes nothing new
    GONE = 4  # the withdrawal itself


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model, exactly: a name for people, a fingerprint of the weights for machines."""

    name: str
    fingerprint: str  # 32 hex digits
    num_blocks: int

    def __post_init__(self) -> None:
        if len(self.fingerprint) != 32 or not all(c in "0123456789abcdef" for c in self.fingerprint):
            raise UsageError(f"model fingerprint must be 32 hex digits, not {self.fingerprint!r}")
        if not 0 < self.num_blocks <= 4096 or not 0 < len(self.name) <= 256:
            raise UsageError(
                f"model {self.name[:40]!r} with {self.num_blocks} blocks is out of range; "
                "a model has 1..4096 blocks and a name of 1..256 letters"
            )


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One Peer at one moment, valid until ``expires_at``."""

    peer_id: str  # 32 hex digits, from the identity key
    instance: int  # differs with every start of the process: a restarted Peer is a new chance
    model: ModelRef
    span: Span
    address: str  # host:port of its gRPC server
    profile: str  # "c8" or "f32"
    state: PeerState
    version: str
    kv_tokens: int  # KV slots in all, tokens
    kv_tokens_free: int
    sessions: int
    queue_tokens: int  # tokens waiting for the engine
    block_s: float  # seconds one Block takes for one decode step, measured by the Peer itself
    expires_at: float  # wall clock, seconds

    def __post_init__(self) -> None:
        if self.span.end > self.model.num_blocks:
            raise UsageError(f"span {self.span} does not fit a model of {self.model.num_blocks} blocks")
        if (
            min(self.kv_tokens, self.kv_tokens_free, self.sessions, self.queue_tokens) < 0
            or not 0 <= self.block_s < 3600
        ):
            raise UsageError(f"peer {self.peer_id[:8]} claims impossible figures")

    def __str__(self) -> str:
        return f"{self.peer_id[:8]}[{self.span}]"
