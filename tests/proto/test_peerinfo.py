from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import shoal_pb2 as pb
from proto.peerinfo import decode_info, encode_info
from swarm.errors import BadRequest
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span
from tests.support.swarm import a_peer

hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
printable = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=64)
names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=40)
numbers = st.integers(0, 2**64 - 1)


@st.composite
def peers(draw: st.DrawFn) -> PeerInfo:
    num_blocks = draw(st.integers(1, 4096))
    start = draw(st.integers(0, num_blocks - 1))
    return PeerInfo(
        peer_id=draw(hexes),
        instance=draw(numbers),
        model=ModelRef(draw(printable), draw(hexes), num_blocks),
        span=Span(start, draw(st.integers(start + 1, num_blocks))),
        address=draw(st.sampled_from(["127.0.0.1:1", "[::1]:65535", "peer-7.example.org:4000"])),
        profile=draw(printable),
        state=draw(st.sampled_from(PeerState)),
        version=draw(printable),
        kv_tokens=draw(numbers),
        kv_tokens_free=draw(numbers),
        sessions=draw(st.integers(0, 2**32 - 1)),
        queue_tokens=draw(numbers),
        block_s=draw(st.floats(0, 3599, allow_nan=False)),
        expires_at=draw(st.floats(0, 1e11, allow_nan=False)),
        name=draw(names),
        public_address=draw(st.booleans()),
    )


@given(peers())
def test_a_peer_info_comes_back_as_it_went(info: PeerInfo):
    assert decode_info(pb.PeerInfo.FromString(encode_info(info).SerializeToString())) == info


@pytest.mark.parametrize(
    "changes",
    [
        {"peer_id": ""},
        {"peer_id": "A" * 32},
        {"peer_id": "a" * 32 + "\n"},
        {"address": ""},
        {"address": "10.0.0.1"},
        {"address": "10.0.0.1:0"},
        {"address": "10.0.0.1:65536"},
        {"address": "unix:/tmp/socket"},
        {"address": "dns:///evil:1"},
        {"address": "a" * 300 + ":1"},
        {"profile": ""},
        {"profile": "c" * 65},
        {"version": ""},
        {"version": "1.0\x1b[2J"},
        {"model": ""},
        {"model": "m" * 257},
        {"model": "\x1b]0;owned\x07"},
        {"fingerprint": "xyz"},
        {"num_blocks": 0},
        {"num_blocks": 5000},
        {"num_blocks": 20},  # the span does not fit
        {"span": pb.SpanRange(start=4, end=4)},
        {"span": pb.SpanRange(start=4, end=25)},
        {"state": 0},
        {"state": 99},
        {"block_s": -1.0},
        {"block_s": float("nan")},
        {"block_s": float("inf")},
        {"expires_at": float("nan")},
        {"expires_at": float("inf")},
        {"name": "n" * 41},
        {"name": " kitchen"},
        {"name": "kitchen\n"},
        {"name": "\x1b[2Jkitchen"},
        {"name": "gnp.\u202eexe"},  # turns the reading direction round
        {"name": "zero\u200bwidth"},
        {"name": "a\u2028b"},
    ],
    ids=str,
)
def test_what_no_honest_peer_would_say_is_a_bad_request(changes: dict[str, Any]):
    message = encode_info(a_peer())
    for name, value in changes.items():
        if isinstance(value, pb.SpanRange):
            message.span.CopyFrom(value)
        else:
            setattr(message, name, value)
    with pytest.raises(BadRequest) as caught:
        decode_info(message)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_a_peer_of_an_older_version_has_no_name_and_keeps_its_address_to_itself():
    message = encode_info(a_peer(name="kitchen", public_address=True))
    message.ClearField("name")
    message.ClearField("public_address")
    assert decode_info(message) == a_peer()


def test_a_record_stays_small():
    named = a_peer(name="k" * 40, public_address=True)
    assert len(encode_info(named).SerializeToString()) - len(encode_info(a_peer()).SerializeToString()) <= 48


def test_an_empty_message_is_a_bad_request():
    with pytest.raises(BadRequest, match="peer_id"):
        decode_info(pb.PeerInfo())
