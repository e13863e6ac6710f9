"""The wire's entries as plain frozen values. No protobuf, no torch: what Sessions, Seats and the scheduler handle.

``frames`` turns them into messages and back, ``tensors`` turns Hidden into torch tensors and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import Fault
from swarm.peerinfo import PeerInfo
from swarm.sampling import SamplingParams
from swarm.span import Span

PROTOCOL = 1
SESSION_BYTES = 16


class WireDType(IntEnum):
    """How hidden states travel."""

    F32 = 1
    BF16 = 2

    @property
    def itemsize(self) -> int:
        return 4 if self is WireDType.F32 else 2


class Want(IntEnum):
    """What the sender of a Chunk wants back."""

    NOTHING = 1  # only fill the KV cache → Done
    HIDDEN = 2  # the Span's output at every position → Chunk
    TOKEN = 3  # sample after the last position → Token


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hidden states [rows, cols], row-major and little-endian in ``data``."""

    dtype: WireDType
    rows: int
    cols: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """First entry in each direction of a Link; a client has no ``peer_id``."""

    version: str
    peer_id: str | None = None
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Open:
    """Asks for a Seat with Pages for ``max_tokens``; ``sampling`` goes to the last Hop only."""

    fingerprint: str
    profile: str
    span: Span
    max_tokens: int
    prompt_tokens: int
    wire: WireDType = WireDType.F32
    sampling: SamplingParams | None = None
    history: tuple[int, ...] = ()  # prompt and answer so far, where sampling needs it


@dataclass(frozen=True, slots=True)
class Opened:
    position: int  # the next position that the Seat takes
    lease_s: float
    max_chunk_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """``count`` consecutive positions from ``position``: either token ids or hidden states."""

    step: int
    position: int
    count: int
    want: Want
    token_ids: tuple[int, ...] | None = None
    hidden: Hidden | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token. ``top`` holds (token id, logprob), most likely first."""

    step: int
    position: int
    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    step: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Raises the Seat's epoch to the Entry's; answered by Opened."""


@dataclass(frozen=True, slots=True)
class Close:
    """Frees the Seat."""


Body = Hello | Open | Opened | Chunk | Token | Done | Advance | Close | Fault


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of one Session; ``session`` is empty only for Hello and for a Fault of the whole Link."""

    session: bytes
    epoch: int
    body: Body


@dataclass(frozen=True, slots=True)
class Rejected:
    """An incoming entry that broke a limit; only its Session is to be told."""

    session: bytes
    epoch: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class AssetRef:
    """A small file of the model that clients need: tokenizer, chat template, generation defaults."""

    name: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Info:
    """What a Peer says of itself and its model before anybody opens a Link."""

    peer: PeerInfo
    assets: tuple[AssetRef, ...]
    hidden_size: int
    vocab_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
