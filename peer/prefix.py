"""Prefix: what full Pages of a Seat's input are called, so that a later Session finds them again. Pure.

    digest[k] = BLAKE3(digest[k-1], the bytes of Page k's input), cut to 16 bytes

The input is what this Hop really was sent, token ids or hidden states, so whoever names a digest can only get what
these very bytes lead to: nobody can put something under somebody else's name. Pages are kept under a name that also
binds the client and the part of the Span: one client never reads what another one computed, nor Blocks that were not.
docs/decisions/0011-prefix-cache.md tells what a client has to think of when it names one.
"""

from __future__ import annotations

import struct

from blake3 import blake3

from peer.seat import Seat
from proto.limits import DIGEST_BYTES
from proto.messages import Chunk, Open


def scoped(digest: bytes, request: Open, client: str) -> bytes:
    """The name under which the Page is kept."""
    scope = f"{client} {request.span} {request.wire.name} {request.embedded}".encode()
    return blake3(digest + scope).digest(length=DIGEST_BYTES)


def note(seat: Seat, chunk: Chunk, page_size: int) -> list[bytes]:
    """``chunk`` was computed: the digests of the Pages that are full now and stay so, as drafts may not."""
    if seat.trail is None:
        return []
    data = _input(chunk)
    seat.trail += data
    row = seat.row_bytes = len(data) // chunk.count
    certain = min(seat.done, seat.provisional)
    new: list[bytes] = []
    while (len(seat.digests) + 1) * page_size <= certain:
        page = bytes(seat.trail[: page_size * row])
        before = seat.digests[-1] if seat.digests else b""
        seat.digests.append(blake3(before + page).digest(length=DIGEST_BYTES))
        del seat.trail[: page_size * row]
        new.append(seat.digests[-1])
    return new


def cut(seat: Seat, page_size: int) -> None:
    """The Seat was rolled back. Where the beginning of its last Page is no longer known, the chain ends."""
    begins = len(seat.digests) * page_size
    if seat.done < begins:
        del seat.digests[seat.done // page_size :]
        seat.trail = bytearray() if seat.done % page_size == 0 else None
    elif seat.trail is not None:
        del seat.trail[(seat.done - begins) * seat.row_bytes :]


def _input(chunk: Chunk) -> bytes:
    if chunk.hidden is not None:
        return chunk.hidden.data
    assert chunk.token_ids is not None
    return struct.pack(f"<{len(chunk.token_ids)}I", *chunk.token_ids)
