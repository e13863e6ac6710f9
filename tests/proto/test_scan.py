from __future__ import annotations

import pytest

from proto import frames
from proto import shoal_pb2 as pb
from proto.messages import Chunk, Entry, Hidden, Open, Want, WireDType
from proto.scan import MAX_CONTROL_BYTES, scan
from swarm.errors import BadRequest
from swarm.span import Span

A = b"a" * 16


def field(number: int, data: bytes) -> bytes:
    """``data`` as a length-delimited field."""
    size, out = len(data), bytes([number << 3 | 2])
    while size >= 0x80:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size]) + data


CANDIDATES = field(5, b"") * 1000  # of a Token: 2 bytes each, some 60 when unpacked
TURNCOAT = field(1, (b"\x42\x00" + b"\x4a\x00") * 1_000_000)  # an entry that changes its body all the time
OPEN = Entry(A, 0, Open("f" * 32, "c8", Span(0, 4), 1 << 20, 4, history=(1,) * (1 << 18)))
BOMBS = {
    "empty entries": b"\x0a\x00" * 5000,
    "one Token with millions of candidates": field(1, field(7, CANDIDATES * 2200)),
    "a Token that is sent in parts": field(1, field(7, CANDIDATES * 100) * 22),
    "many Tokens with many candidates": field(1, field(7, CANDIDATES)) * 2200,
    "an entry that changes its body all the time": TURNCOAT,
    "a Chunk beside it": field(1, field(6, bytes(1 << 20)) + field(7, CANDIDATES * 2200)),
    "a large unknown field": field(15, bytes(MAX_CONTROL_BYTES + 1)),
    "many Opens with long histories": frames.encode([OPEN] * 20).SerializeToString(),
    "many unknown fields": field(15, b"") * 1_000_000,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(data: bytes):
    with pytest.raises(BadRequest, match="frame has"):
        scan(data, 64 << 20, 4096)


def test_a_bomb_does_not_get_long_looks_either():
    with pytest.raises(BadRequest, match="an entry of 32 fields or more"):
        scan(TURNCOAT, 64 << 20, 4096)


def test_large_chunks_and_an_open_with_a_long_history_pass():
    rows = 1024
    chunk = Chunk(0, 0, rows, Want.HIDDEN, hidden=Hidden(WireDType.F32, rows, 4096, bytes(rows * 4096 * 4)))
    opening = Open("f" * 32, "c8", Span(0, 4), 1 << 20, 4, history=(70_000,) * (1 << 20))
    data = frames.encode([Entry(A, 0, opening), Entry(A, 0, chunk), Entry(A, 1, chunk)]).SerializeToString()
    scan(data, 64 << 20, 4096)
    with pytest.raises(BadRequest, match=f"{len(data)} bytes, at most {len(data) - 1}"):
        scan(data, len(data) - 1, 4096)


def test_exactly_as_many_entries_as_are_allowed_pass():
    data = pb.Frame(entries=[pb.Entry(session=A, done=pb.Done(step=1))] * 4096).SerializeToString()
    scan(data, 64 << 20, 4096)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x0a", "ends in the middle of a number"),
        (b"\x0a\x80", "ends in the middle of a number"),
        (b"\x0a\x05abc", "longer than what is left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than what is left"),
        (b"\x80" * 11, "more than 10 bytes"),
        (b"\x09abc", "longer than what is left"),
        (b"\x0dabc", "longer than what is left"),
        (b"\x0b", "wire type 3"),
        (b"\x0e", "wire type 6"),
        (b"\x0a\x42" + b"\x42\x7f" + bytes(64), "longer than what is left"),
    ],
)
def test_what_is_not_shaped_like_a_frame_is_refused(data: bytes, complaint: str):
    with pytest.raises(BadRequest, match=f"not a frame: .*{complaint}"):
        scan(data, 1000, 10)


@pytest.mark.parametrize("data", [b"", b"\x08\x96\x01", b"\x09" + bytes(8), b"\x0d" + bytes(4), b"\x12\x00"])
def test_fields_of_later_versions_pass(data: bytes):
    scan(data, 1000, 10)
    assert frames.decode(data, frames.Limits()) == []
