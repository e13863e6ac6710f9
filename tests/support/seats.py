"""Values that tests of the Peer's books begin with."""

from __future__ import annotations

from typing import Any

from peer.seat import Seat
from peer.seats import Terms
from proto.messages import Chunk, Hidden, Neighbour, Open, Want, WireDType
from swarm.peerinfo import ModelRef
from swarm.sampling import SamplingParams
from swarm.span import Span

MODEL = ModelRef("tiny", "0123456789abcdef" * 2, 8)


def terms(**changes: Any) -> Terms:
    given: dict[str, Any] = {
        "model": MODEL, "span": Span(0, 8), "profile": "c8", "max_positions": 128, "page_size": 4,
        "max_sessions": 4, "max_chunk_tokens": 16, "lease_s": 60.0,
    }  # fmt: skip
    return Terms(**{**given, **changes})


def opening(**changes: Any) -> Open:
    given: dict[str, Any] = {
        "fingerprint": MODEL.fingerprint, "profile": "c8", "span": Span(0, 8), "max_tokens": 32, "prompt_tokens": 8,
        "sampling": SamplingParams(),
    }  # fmt: skip
    return Open(**{**given, **changes})


def seat(epoch: int = 0, request: Open | None = None, pages: tuple[int, ...] = tuple(range(8))) -> Seat:
    request = request or opening()
    return Seat(
        bytes(16), epoch, "link", request, pages,
        max_chunk_tokens=16, lease_s=60.0, now=0.0, at_end=request.span.end == MODEL.num_blocks,
    )  # fmt: skip


def neighbour(seat: bytes = b"n" * 16, peer_id: str = "e" * 32, max_chunk_tokens: int = 16) -> Neighbour:
    return Neighbour(peer_id, "10.0.0.9:4000", seat, max_chunk_tokens)


def tokens(
    step: int, position: int, count: int = 1, want: Want = Want.TOKEN, first_id: int = 5, *, drafts: int = 0
) -> Chunk:
    ids = tuple(range(first_id, first_id + count))
    return Chunk(step, position, count, want, token_ids=ids, drafts=ids[count - drafts :])


def hidden(
    step: int,
    position: int,
    count: int = 1,
    want: Want = Want.HIDDEN,
    *,
    dtype: WireDType = WireDType.F32,
    cols: int = 2,
) -> Chunk:
    data = bytes(count * cols * dtype.itemsize)
    return Chunk(step, position, count, want, hidden=Hidden(dtype, count, cols, data))
