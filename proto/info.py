"""Info ↔ its message. Checks what a peer says of itself and its model before anybody believes it."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.messages import AssetRef, Info
from proto.peerinfo import decode_info, encode_info
from swarm.errors import BadRequest

MAX_INFO_BYTES = 64 << 10
MAX_ASSETS = 64
MAX_EOS = 64
MAX_HIDDEN = 1 << 17
MAX_VOCAB = 1 << 22
MAX_POSITIONS = 1 << 26


def encode_info_reply(info: Info) -> pb.InfoReply:
    return pb.InfoReply(
        info=encode_info(info.peer),
        assets=[pb.AssetRef(name=asset.name, sha256=asset.sha256, size=asset.size) for asset in info.assets],
        hidden_size=info.hidden_size,
        vocab_size=info.vocab_size,
        max_positions=info.max_positions,
        eos_token_ids=info.eos_token_ids,
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
    )


def _decode_asset(asset: pb.AssetRef) -> AssetRef:
    # The name becomes a file name at the client: no separators, no leading dot, nothing but plain letters.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", asset.name):
        raise BadRequest(f"info: {asset.name[:40]!r} is not a plain file name")
    if not re.fullmatch("[0-9a-f]{64}", asset.sha256):
        raise BadRequest(f"info: sha256 of {asset.name} must be 64 hex digits")
    return AssetRef(asset.name, asset.sha256, asset.size)
