"""PeerInfo: what a Peer claims about itself. A plain value; how it travels is ``dht.records``' affair."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import UsageError
from swarm.span import Span

MAX_NAME_LETTERS = 40


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


def check_name(name: str) -> None:
    """Raises UsageError for what cannot be a Peer's name: it ends up on strangers' screens."""
    if len(name) > MAX_NAME_LETTERS or not name.isprintable() or name != name.strip():
        raise UsageError(
            f"a peer's name has at most {MAX_NAME_LETTERS} printable letters, no blanks around them, "
            f"not {name[:MAX_NAME_LETTERS]!r}"
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
    name: str = ""  # what its owner calls it
    public_address: bool = False  # whether its owner lets dashboards show the address

    def __post_init__(self) -> None:
        if self.span.end > self.model.num_blocks:
            raise UsageError(f"span {self.span} does not fit a model of {self.model.num_blocks} blocks")
        if (
            min(self.kv_tokens, self.kv_tokens_free, self.sessions, self.queue_tokens) < 0
            or not 0 <= self.block_s < 3600
        ):
            raise UsageError(f"peer {self.peer_id[:8]} claims impossible figures")
        check_name(self.name)

    def __str__(self) -> str:
        return f"{self.peer_id[:8]}[{self.span}]"


@dataclass(frozen=True, slots=True)
class Flow:
    """Seats of a Peer whose outputs go the same way."""

    peer_id: str | None  # of the next Hop, or of the first where a ring closes; None: to clients
    seats: int
    rtt_s: float | None = None  # of a small question, there and back, by the Peer's own clock


@dataclass(frozen=True, slots=True)
class PeerStats:
    """What a Peer does now. Tokens are counted from the start of its ``instance``: whoever reads them twice, by one
    clock, has the rate.
    """

    prefill_tokens: int  # positions computed through its Span
    decode_tokens: int
    pages: int
    pages_used: int
    flows: tuple[Flow, ...] = ()
