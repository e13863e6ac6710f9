"""The wire's entries as plain frozen values. No protobuf, no torch: what Sessions, Seats and the scheduler handle.

``frames`` turns them into messages and back, ``tensors`` turns Hidden into torch tensors and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import Fault
from swarm.peerinfo import PeerInfo, PeerStats
from swarm.sampling import SamplingParams
from swarm.span import Span

PROTOCOL = 2
SESSION_BYTES = 16


class WireDType(IntEnum):
    """How hidden states travel."""

    F32 = 1
    BF16 = 2

    @property
    def itemsize(self) -> int:
        return 4 if self is WireDType.F32 else 2


class Want(IntEnum):
    """What is wanted at the end of the Route; a Hop before the end passes its output on in any case."""

    NOTHING = 1  # only fill the KV caches
    HIDDEN = 2  # the last Hop's output at every position → Chunk
    TOKEN = 3  # sample after the last position → Token


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hidden states [rows, cols], row-major and little-endian in ``data``."""

    dtype: WireDType
    rows: int
    cols: int
    data: bytes

    def slice(self, start: int, end: int) -> Hidden:
        """Rows ``start`` up to ``end`` of these."""
        row = self.cols * self.dtype.itemsize
        return Hidden(self.dtype, end - start, self.cols, self.data[start * row : end * row])


@dataclass(frozen=True, slots=True)
class Hello:
    """First entry in each direction of a Link; a client has no ``peer_id``, a Peer no ``client_id``."""

    version: str
    peer_id: str | None = None
    protocol: int = PROTOCOL
    client_id: str | None = None  # 32 hex digits of its own choice: whose turn it is, and whose prefixes


@dataclass(frozen=True, slots=True)
class Open:
    """Asks for a Seat with Pages for ``max_tokens``; what concerns sampling goes to the last Hop only."""

    fingerprint: str
    profile: str
    span: Span
    max_tokens: int
    prompt_tokens: int
    wire: WireDType = WireDType.F32
    sampling: SamplingParams | None = None
    history: tuple[int, ...] = ()  # prompt and answer so far, where sampling or drafting needs it
    embedded: bool = False  # the Ends are the client's: a Seat at Block 0 takes hidden states too
    num_hops: int = 1  # of the Route
    stop_token_ids: tuple[int, ...] = ()  # ring: after one of these the last Hop does not go on by itself
    draft_tokens: int = 0  # ring: the last Hop may run ahead of itself by so many guesses
    prefix: tuple[bytes, ...] = ()  # digests of the first full Pages of input, in order, as Kept named them
    timing: bool = False  # Tokens say where their time went


@dataclass(frozen=True, slots=True)
class Opened:
    position: int  # the next position that the Seat takes
    lease_s: float
    max_chunk_tokens: int
    kept_from: int = 0  # the first position whose output the Seat can send again; ``position``: none


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The Seat of another Hop, and where it is. Its id is what entitles to send it Chunks."""

    peer_id: str
    address: str
    seat: bytes
    max_chunk_tokens: int


@dataclass(frozen=True, slots=True)
class Path:
    """Where the outputs of a Seat go. Rolls it back to ``position`` first; sends what it holds from ``next_position``
    on. Not answered.
    """

    position: int
    next: Neighbour | None  # None: outputs go to the client
    next_position: int  # what lies before is there already
    feed: Neighbour | None = None  # ring: the first Hop's Seat, which the last Hop gives its tokens
    num_tokens: int = 0  # prompt and answer as the client knows them
    step: int = 0  # of what is sent again


@dataclass(frozen=True, slots=True)
class Fork:
    """Makes another Seat like this one with its first ``position`` positions; Pages are shared until one of both
    writes. Answered, for the new Seat, by Opened or a Fault.
    """

    seat: bytes
    position: int
    num_tokens: int = 0  # of the history
    sampling: SamplingParams | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the full Pages of a Seat's input are called, from Page ``first`` on."""

    first: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """To the client: a Hop cannot go on because of another. Its own Seat is well and waits for a new Path."""

    peer_id: str  # of the other
    fault: Fault


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations at one Hop, by its own clock; ``start`` is the Block at which its span begins."""

    start: int
    queue_s: float
    compute_s: float  # of the whole Batch


@dataclass(frozen=True, slots=True)
class Chunk:
    """``count`` consecutive positions from ``position``: either token ids or hidden states."""

    step: int
    position: int
    count: int
    want: Want
    token_ids: tuple[int, ...] | None = None
    hidden: Hidden | None = None
    drafts: tuple[int, ...] = ()  # the tokens of the last so many positions, which are guesses: the next Chunk may
    # begin at any of them
    timings: tuple[Timing, ...] = ()  # of the Hops before

    @property
    def end(self) -> int:
        return self.position + self.count

    def head(self, count: int) -> Chunk:
        """The first ``count`` positions, of which nothing is wanted at the end."""
        ids, hidden = self.token_ids, self.hidden
        want = Want.HIDDEN if self.want is Want.HIDDEN else Want.NOTHING
        return Chunk(
            self.step, self.position, count, want,
            None if ids is None else ids[:count],
            None if hidden is None else hidden.slice(0, count),
            (), self.timings,
        )  # fmt: skip

    def split(self, count: int) -> tuple[Chunk, Chunk]:
        """The first ``count`` positions and the others. Not within drafts."""
        rest = self.count - count
        assert count > 0 and len(self.drafts) < rest, f"{count} of {self.count}, {len(self.drafts)} drafts"
        ids, hidden = self.token_ids, self.hidden
        second = Chunk(
            self.step, self.position + count, rest, self.want,
            None if ids is None else ids[count:],
            None if hidden is None else hidden.slice(count, self.count),
            self.drafts, self.timings,
        )  # fmt: skip
        return self.head(count), second


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token. ``top`` holds (token id, logprob), most likely first."""

    step: int
    position: int
    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    timings: tuple[Timing, ...] = ()  # of every Hop, where the Open asked for them


@dataclass(frozen=True, slots=True)
class Done:
    step: int
    position: int  # everything before it is computed


@dataclass(frozen=True, slots=True)
class Advance:
    """Raises the Seat's epoch to the Entry's; answered by Opened."""


@dataclass(frozen=True, slots=True)
class Close:
    """Frees the Seat."""


Body = (
    Hello | Open | Opened | Path | Chunk | Token | Done | Advance | Fork | Kept | Trouble | Close | Fault
)  # fmt: skip


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
    stats: PeerStats | None = None  # None: of an older version, which does not say
