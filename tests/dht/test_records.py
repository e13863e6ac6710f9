from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.records import (
    CLOCK_SKEW_S,
    MAX_RECORD_BYTES,
    MAX_TTL_S,
    TTL_S,
    decode_record,
    encode_record,
    farewell,
    seal,
    segment_keys,
    unseal,
)
from swarm.errors import BadRequest, UsageError
from swarm.peerinfo import PeerState
from swarm.span import Span
from tests.support.swarm import NOW, a_model, a_peer


def test_a_record_comes_back_as_it_went():
    peer = a_peer()
    assert decode_record(encode_record(peer, NOW), peer.expires_at, NOW) == peer


@pytest.mark.parametrize(
    ("span", "segments"),
    [("0:8", [0]), ("0:9", [0, 1]), ("7:9", [0, 1]), ("8:16", [1]), ("15:24", [1, 2]), ("0:24", [0, 1, 2])],
)
def test_a_span_is_found_under_the_segments_it_touches(span: str, segments: list[int]):
    assert segment_keys(a_model(), Span.parse(span)) == tuple(f"shoal.v1/{'a' * 32}/{n}" for n in segments)


@given(st.integers(0, 79), st.integers(1, 80), st.integers(0, 79), st.integers(1, 80))
def test_spans_that_overlap_share_a_segment(start: int, length: int, other_start: int, other_length: int):
    model = a_model(80)
    left, right = Span(start, min(80, start + length)), Span(other_start, min(80, other_start + other_length))
    if set(left) & set(right):
        assert set(segment_keys(model, left)) & set(segment_keys(model, right))


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, MAX_TTL_S + 0.1, float("inf"), float("nan")])
def test_nobody_writes_a_record_that_readers_would_drop_for_its_expiry(ttl_s: float):
    with pytest.raises(UsageError, match="must expire within 120 s"):
        encode_record(a_peer(expires_at=NOW + ttl_s), NOW)


def test_nobody_writes_a_record_that_readers_would_drop_for_its_size():
    with pytest.raises(UsageError, match=f"{MAX_RECORD_BYTES} bytes"):
        encode_record(a_peer(version="v" * MAX_RECORD_BYTES), NOW)


def test_the_largest_honest_record_fits():
    model = a_model(4096, name="\N{FISH}" * 256)
    peer = a_peer(model=model, address="h" * 253 + ":65535", version="v" * 64, profile="p" * 64, kv_tokens=2**64 - 1)
    assert len(encode_record(peer, NOW)) < MAX_RECORD_BYTES / 2


@pytest.mark.parametrize("ttl_s", [-1.0, 0.0, MAX_TTL_S + CLOCK_SKEW_S + 0.1, float("inf"), float("nan")])
def test_a_reader_drops_expiries_out_of_bounds(ttl_s: float):
    peer = a_peer(expires_at=NOW + ttl_s)
    with pytest.raises(BadRequest, match=r"expires in"):
        decode_record(encode_record(a_peer(), NOW), peer.expires_at, NOW)


def test_a_writer_whose_clock_is_ahead_by_the_allowed_skew_is_believed():
    peer = a_peer(expires_at=NOW + CLOCK_SKEW_S + MAX_TTL_S)
    assert decode_record(encode_record(peer, NOW + CLOCK_SKEW_S), peer.expires_at, NOW) == peer


def test_last_words_stored_again_with_a_later_expiry_are_dropped():
    peer = a_peer()
    with pytest.raises(BadRequest, match="but was stored until"):
        decode_record(encode_record(peer, NOW), peer.expires_at + 30, NOW)


def test_a_large_record_is_dropped_before_it_is_parsed():
    with pytest.raises(BadRequest, match="expected no more than 4096"):
        decode_record(b"\x01" + b"\xff" * MAX_RECORD_BYTES, NOW + TTL_S, NOW)


@pytest.mark.parametrize("sealed", [b"", b"\x02rest", b"\x00"])
def test_an_unknown_envelope_is_dropped(sealed: bytes):
    with pytest.raises(BadRequest, match="unknown envelope"):
        unseal(sealed)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_whatsoever_raise_anything_but_bad_request(junk: bytes, sealed: bool):
    with pytest.raises(BadRequest):
        decode_record(seal(junk) if sealed else junk, NOW + TTL_S, NOW)


@given(st.integers(0, 250), st.integers(0, 255))
def test_a_flipped_byte_is_either_dropped_or_a_claim_within_bounds(index: int, value: int):
    peer = a_peer()
    record = bytearray(encode_record(peer, NOW))
    record[index % len(record)] = value
    try:
        read = decode_record(bytes(record), peer.expires_at, NOW)
    except BadRequest:
        return
    assert read.expires_at == peer.expires_at and read.span.end <= read.model.num_blocks


def test_a_farewell_outlives_every_copy_but_not_by_more_than_needed():
    peer = a_peer()
    gone = farewell(peer, last_expiry=peer.expires_at + 7)
    assert gone.state is PeerState.GONE
    assert peer.expires_at + 7 < gone.expires_at < peer.expires_at + 7.1
    assert replace(gone, state=peer.state, expires_at=peer.expires_at) == peer
    assert farewell(peer, last_expiry=0.0).expires_at > peer.expires_at
