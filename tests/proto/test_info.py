from __future__ import annotations

from dataclasses import replace

import pytest

from proto import shoal_pb2 as pb
from proto.info import MAX_FLOWS, MAX_INFO_BYTES, decode_info_reply, encode_info_reply
from proto.messages import AssetRef
from swarm.errors import BadRequest
from swarm.peerinfo import Flow, PeerStats
from tests.support.echo import info

ASSETS = (AssetRef("tokenizer.json", "a" * 64, 1000), AssetRef("chat_template.jinja", "b" * 64, 0))


def test_an_info_survives_the_way():
    sent = info(ASSETS)
    assert decode_info_reply(encode_info_reply(sent)) == sent
    assert decode_info_reply(encode_info_reply(sent).SerializeToString()) == sent


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, expected 1..131072"),
        ({"hidden_size": 1 << 20}, "hidden_size is 1048576"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"max_positions": 2**32 - 1}, "max_positions is 4294967295"),
        ({"eos_token_ids": [512]}, "end token 512 is outside the vocabulary of 512"),
        ({"eos_token_ids": [1] * 65}, "65 end tokens, at most 64 and 64"),
        ({"assets": [pb.AssetRef(name="a", sha256="a" * 64)] * 65}, "65 assets"),
        *(
            ({"assets": [pb.AssetRef(name=name, sha256="a" * 64)]}, "not a plain file name")
            for name in ("", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\x00", "a\n", "a" * 129, "con:")
        ),
        ({"assets": [pb.AssetRef(name="a", sha256="A" * 64)]}, "sha256 of a must be 64 hex digits"),
        ({"info": pb.PeerInfo(peer_id="me")}, "peer_id must be 32 hex digits"),
    ],
)
def test_an_info_that_cannot_be_is_refused(fields: dict[str, object], complaint: str):
    reply = encode_info_reply(info(ASSETS))
    for name in fields:
        reply.ClearField(name)  # type: ignore[arg-type]
    reply.MergeFrom(pb.InfoReply(**fields))  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match=complaint):
        decode_info_reply(reply)


STATS = PeerStats(
    1000, 2**63, 128, 7, (Flow("a" * 32, 2, 0.000_4), Flow(None, 3), Flow("b" * 32, 0, 0.0), Flow("c" * 32, 1, 59.9))
)


def test_what_a_peer_does_now_survives_the_way():
    sent = replace(info(ASSETS), stats=STATS)
    assert decode_info_reply(encode_info_reply(sent).SerializeToString()) == sent


def test_an_older_peer_says_nothing_of_its_work():
    assert decode_info_reply(encode_info_reply(info(ASSETS)).SerializeToString()).stats is None


def test_more_ways_than_are_taken_are_not_sent():
    many = tuple(Flow(f"{number:032x}", 1) for number in range(MAX_FLOWS + 5))
    sent = replace(info(), stats=PeerStats(0, 0, 1, 0, many))
    decoded = decode_info_reply(encode_info_reply(sent))
    assert decoded.stats is not None and decoded.stats.flows == many[:MAX_FLOWS]


@pytest.mark.parametrize(
    ("stats", "complaint"),
    [
        (pb.Stats(pages=3, pages_used=4), "4 of 3 pages are used"),
        (pb.Stats(flows=[pb.Flow(peer_id=f"{n:032x}") for n in range(65)]), "flow 65 ways, at most 64"),
        (pb.Stats(flows=[pb.Flow(peer_id="<script>")]), "expected 32 hex digits"),
        (pb.Stats(flows=[pb.Flow(peer_id="A" * 32)]), "expected 32 hex digits"),
        (pb.Stats(flows=[pb.Flow(rtt_us=2**32 - 1)]), "round trip of 4294967295"),
        (pb.Stats(flows=[pb.Flow(seats=1), pb.Flow(seats=2)]), "two flows go to the same peer"),
    ],
)
def test_work_that_cannot_be_is_refused(stats: pb.Stats, complaint: str):
    reply = encode_info_reply(info(ASSETS))
    reply.stats.CopyFrom(stats)
    with pytest.raises(BadRequest, match=complaint):
        decode_info_reply(reply.SerializeToString())


@pytest.mark.parametrize(
    ("data", "complaint"), [(b"\xff", "protobuf cannot read it"), (bytes(MAX_INFO_BYTES + 1), "at most 65536")]
)
def test_bytes_that_are_no_info_are_refused(data: bytes, complaint: str):
    with pytest.raises(BadRequest, match=complaint):
        decode_info_reply(data)
