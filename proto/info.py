"""Info ↔ its message. Checks what a peer says of itself and its model before anybody believes it."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.messages import AssetRef, Info
from proto.peerinfo import PEER_ID, decode_info, encode_info
from swarm.errors import BadRequest
from swarm.peerinfo import Flow, PeerStats

MAX_INFO_BYTES = 64 << 10
MAX_ASSETS = 64
MAX_EOS = 64
MAX_HIDDEN = 1 << 17
MAX_VOCAB = 1 << 22
MAX_POSITIONS = 1 << 26
MAX_FLOWS = 64
MAX_RTT_US = 60_000_000


def encode_info_reply(info: Info) -> pb.InfoReply:
    return pb.InfoReply(
        info=encode_info(info.peer),
        assets=[pb.AssetRef(name=asset.name, sha256=asset.sha256, size=asset.size) for asset in info.assets],
        hidden_size=info.hidden_size,
        vocab_size=info.vocab_size,
        max_positions=info.max_positions,
        eos_token_ids=info.eos_token_ids,
        stats=None if info.stats is None else _encode_stats(info.stats),
    )


def decode_info_reply(reply: pb.InfoReply | bytes) -> Info:
    """The value behind ``reply`` or its bytes. Raises BadRequest for anything that an honest Peer would not say."""
    if isinstance(reply, bytes):
        if len(reply) > MAX_INFO_BYTES:
            raise BadRequest(f"info has {len(reply)} bytes, at most {MAX_INFO_BYTES} are taken")
        try:
            reply = pb.InfoReply.FromString(reply)
        except DecodeError:
            raise BadRequest("not an Info: protobuf cannot read it") from None
    for what, value, limit in (
        ("hidden_size", reply.hidden_size, MAX_HIDDEN),
        ("vocab_size", reply.vocab_size, MAX_VOCAB),
        ("max_positions", reply.max_positions, MAX_POSITIONS),
    ):
        if not 0 < value <= limit:
            raise BadRequest(f"info: {what} is {value}, expected 1..{limit}")
    if len(reply.assets) > MAX_ASSETS or len(reply.eos_token_ids) > MAX_EOS:
        raise BadRequest(
            f"info: {len(reply.assets)} assets and {len(reply.eos_token_ids)} end tokens, "
            f"at most {MAX_ASSETS} and {MAX_EOS} are taken"
        )
    if max(reply.eos_token_ids, default=0) >= reply.vocab_size:
        raise BadRequest(f"info: end token {max(reply.eos_token_ids)} is outside the vocabulary of {reply.vocab_size}")
    return Info(
        peer=decode_info(reply.info),
        assets=tuple(_decode_asset(asset) for asset in reply.assets),
        hidden_size=reply.hidden_size,
        vocab_size=reply.vocab_size,
        max_positions=reply.max_positions,
        eos_token_ids=tuple(reply.eos_token_ids),
        stats=_decode_stats(reply.stats) if reply.HasField("stats") else None,
    )


def _encode_stats(stats: PeerStats) -> pb.Stats:
    return pb.Stats(
        prefill_tokens=stats.prefill_tokens,
        decode_tokens=stats.decode_tokens,
        pages=stats.pages,
        pages_used=stats.pages_used,
        flows=[_encode_flow(flow) for flow in stats.flows[:MAX_FLOWS]],
    )


def _encode_flow(flow: Flow) -> pb.Flow:
    rtt_us = None if flow.rtt_s is None else min(round(flow.rtt_s * 1e6), MAX_RTT_US)
    return pb.Flow(peer_id=flow.peer_id or "", seats=flow.seats, rtt_us=rtt_us)


def _decode_stats(stats: pb.Stats) -> PeerStats:
    if len(stats.flows) > MAX_FLOWS:
        raise BadRequest(f"info: outputs flow {len(stats.flows)} ways, at most {MAX_FLOWS} are taken")
    if stats.pages_used > stats.pages:
        raise BadRequest(f"info: {stats.pages_used} of {stats.pages} pages are used")
    flows = tuple(_decode_flow(flow) for flow in stats.flows)
    if len({flow.peer_id for flow in flows}) != len(flows):
        raise BadRequest("info: two flows go to the same peer")
    return PeerStats(stats.prefill_tokens, stats.decode_tokens, stats.pages, stats.pages_used, flows)


def _decode_flow(flow: pb.Flow) -> Flow:
    if flow.peer_id and not PEER_ID.fullmatch(flow.peer_id):
        raise BadRequest(f"info: a flow goes to {flow.peer_id[:40]!r}, expected 32 hex digits")
    if flow.rtt_us > MAX_RTT_US:
        raise BadRequest(f"info: a round trip of {flow.rtt_us} µs, at most {MAX_RTT_US} are taken")
    return Flow(flow.peer_id or None, flow.seats, flow.rtt_us / 1e6 if flow.HasField("rtt_us") else None)


def _decode_asset(asset: pb.AssetRef) -> AssetRef:
    # The name becomes a file name at the client: no separators, no leading dot, nothing but plain letters.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", asset.name):
        raise BadRequest(f"info: {asset.name[:40]!r} is not a plain file name")
    if not re.fullmatch("[0-9a-f]{64}", asset.sha256):
        raise BadRequest(f"info: sha256 of {asset.name} must be 64 hex digits")
    return AssetRef(asset.name, asset.sha256, asset.size)
